"""How reports print shares, differences, correlations, intervals, models and protocols."""

from collections.abc import Mapping
from typing import Any


def percent(share: float | None) -> str:
    """A fraction as the tables print it; "–" where there are no items to take it of."""
    return "–" if share is None else f"{100 * share:.1f} %"


def points(difference: float | None) -> str:
    """A difference of two shares, in percentage points."""
    return "–" if difference is None else f"{100 * difference:+.1f}"


def correlation(value: float | None) -> str:
    """A correlation; none is defined where all classes are equally frequent or equally accurate."""
    return "not defined" if value is None else f"{value:.2f}"


def correlated(frequency: Mapping[str, Any]) -> str:
    """Both correlations of a report's frequencies with their 95 % intervals, where they have one."""
    parts = []
    for kind in ("spearman", "pearson"):
        bounds = frequency.get(f"{kind}_interval")
        within = f" ({correlation(bounds[0])} to {correlation(bounds[1])})" if bounds else ""
        parts.append(f"{kind.capitalize()} {correlation(frequency[kind])}{within}")
    return ", ".join(parts)


def interval(rate: Mapping[str, Any]) -> str:
    """The 95 % interval of a rate from report.json; "–" for a rate of no items."""
    if rate["low"] is None:
        return "–"
    return f"{100 * rate['low']:.1f} to {100 * rate['high']:.1f} %"


def accuracy_name(report: Mapping[str, Any]) -> str:
    """What a report's accuracy is called."""
    return "VQA accuracy" if report["protocol"].get("task") == "vqa" else "accuracy"


def headline(report: Mapping[str, Any]) -> str:
    """The one number of a report: its accuracy; of free answers their mean grade, or how many wait for a grader."""
    if report["protocol"].get("task") != "graded":
        name = accuracy_name(report)
        if report["accuracy"]["value"] is None:
            return "no item answered"
        return f"{percent(report['accuracy']['value'])} {'correct' if name == 'accuracy' else name}"
    found = report.get("numbers") or {}
    totals = [f"{percent(number['value'])} by grader {name}" for name, number in found.items()]
    return ", ".join(totals) or f"{report['items']['answered']:,} answers, not graded yet"


def main_number(report: Mapping[str, Any]) -> Mapping[str, Any]:
    """The rate of `headline`, with value, low, high and n; value None where there is none yet."""
    if report["protocol"].get("task") != "graded":
        return dict(report["accuracy"])
    found = list((report.get("numbers") or {}).values())
    return dict(found[0]) if found else {"value": None, "low": None, "high": None, "n": 0}


def protocol_tag(report: Mapping[str, Any]) -> str:
    """Name and hash of the protocol, shown with every number."""
    protocol = report["protocol"]
    return f"{protocol.get('name', 'custom')} {protocol['hash']}"


def merged_onto(result: Mapping[str, Any]) -> str:
    """Suffix for a model whose LoRA was merged onto another model's language weights, as the paper's code does."""
    onto = (result.get("evaluated_model") or {}).get("lora_onto")
    return "" if onto is None else f", LoRA merged onto {onto}"
