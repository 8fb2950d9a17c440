"""How the results of `eval.robustness` look: a table of the factors, every variant as a dot, all numbers folded."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from configs.eval_dir import ResultsDir
from data_prep.page import Block, Definitions, Folded, Heading, Numbers, Page, Table, Text
from data_prep.page_cards import Link
from data_prep.page_charts import Bar, dots
from data_prep.run_index import write_result
from eval.reports.formatting import interval, percent, points, protocol_tag

MEANING = (
    "One setting is changed at a time; all variants answer the same items. The spread is the standard deviation over a "
    "factor's values, the base among them: it says how much the score depends on a setting that should not matter, and "
    "is not the sampling error, which is each accuracy's interval. Items that change have more points under some "
    "values than under others. p: McNemar's exact test against the base (where questions share images or have partial "
    "credit, a randomization test over images), adjusted for the number of variants (Holm)."
)
HEADERS = ("factor", "values", "mean", "spread (points)", "lowest", "highest", "items that change", "smallest p")


def write_robustness(folder: Path, results: Mapping[str, Any]) -> Path:
    """Write robustness.json, .md and .html into `folder`; returns the HTML page."""
    values = {**results, "summary": f"{_span(results)} correct under {results['variants']} variants"}
    return write_result(ResultsDir(folder).robustness, values, robustness_page(results, folder))


def robustness_page(results: Mapping[str, Any], folder: Path) -> Page:
    """The page of one evaluation's robustness, with a link from a page in `folder` to the report of the base."""
    base, overall, span = results["base"], results["overall"], _span(results)
    blocks: list[Block] = [
        Definitions(
            [
                ("model", f"{results['model']} ({results['label']})"),
                ("data", f"{results['source']}, {base['n']:,} items"),
                (
                    "protocol of the base",
                    f"{protocol_tag(results)}, task {results['protocol']['task'].replace('_', ' ')}",
                ),
                ("items of the base", Link.to("report", Path(results["report"]), folder)),
            ]
        ),
        *(Text(note, warning=True) for note in results["notes"]),
        Numbers(
            [
                ("base", percent(base["value"]), f"95 % interval {interval(base)}, n = {base['n']:,}"),
                (
                    "mean of all variants",
                    percent(overall["mean"]),
                    f"{results['variants']} variants, the base included",
                ),
                ("spread", _points(overall["deviation"]), "points, standard deviation over all variants"),
                ("lowest to highest", span, f"of {results['variants']} variants"),
            ]
        ),
        factor_table(results),
        *(Text(sentence) for sentence in not_varied(results)),
        *_dots(results),
        Text(MEANING),
        Folded("All variants", [_variant_table(results)]),
    ]
    return Page(f"Robustness of {results['name']}: {span} correct", blocks)


def _span(results: Mapping[str, Any]) -> str:
    """The lowest and the highest accuracy.

    >>> _span({"overall": {"min": 0.1, "max": 0.967}})
    '10.0 to 96.7 %'
    """
    overall = results["overall"]
    return f"{percent(overall['min']).removesuffix(' %')} to {percent(overall['max'])}"


def factor_table(results: Mapping[str, Any]) -> Table:
    """A row a factor, and one for all variants."""
    rows = [_factor_row(factor) for factor in results["factors"] if not factor["reason"]]
    overall = results["overall"]
    numbers = [
        percent(overall["mean"]),
        _points(overall["deviation"]),
        percent(overall["min"]),
        percent(overall["max"]),
    ]
    rows.append(["all", f"{results['variants']}", *numbers, "", ""])
    return Table(HEADERS, rows, numeric=frozenset(range(1, len(HEADERS))))


def not_varied(results: Mapping[str, Any]) -> list[str]:
    """A sentence for each factor that was not varied, with the reason."""
    return [f"Not varied: {_title(f)} ({f['reason']})." for f in results["factors"] if f["reason"]]


def _factor_row(factor: Mapping[str, Any]) -> list[str]:
    tested = [value["against_base"]["p_adjusted"] for value in factor["values"] if value["against_base"]]
    return [
        _title(factor),
        f"{len(factor['values'])}",
        percent(factor["mean"]),
        _points(factor["deviation"]),
        percent(factor["min"]),
        percent(factor["max"]),
        percent(factor["changed"]["value"]),
        f"{min(tested):.2g}" if tested else "",
    ]


def _title(factor: Mapping[str, Any]) -> str:
    return str(factor["factor"]).replace("_", " ")


def _points(deviation: float | None) -> str:
    return "–" if deviation is None else f"{100 * deviation:.2f}"


def _dots(results: Mapping[str, Any]) -> list[Block]:
    """Every variant with its interval, a colour a factor."""
    bars = []
    for number, factor in enumerate(results["factors"]):
        for value in factor["values"]:
            rate = value["accuracy"]
            base = "" if value["against_base"] else " (base)"
            text = f"{percent(rate['value'])}, n = {rate['n']:,}"
            name = f"{_title(factor)}: {value['value']}{base}"
            bars.append(Bar(name, rate["value"], text, rate["low"], rate["high"], number))
    if not bars:
        return []
    return [Heading("Every variant"), dots(bars, "Accuracy with the 95 % interval; each factor has a colour.")]


def _variant_table(results: Mapping[str, Any]) -> Table:
    rows = []
    for factor in results["factors"]:
        for value in factor["values"]:
            pair, rate = value["against_base"], value["accuracy"]
            compared = ["base", "", "", ""]
            if pair:
                span = f"{100 * pair['low']:+.1f} to {100 * pair['high']:+.1f}"
                compared = [points(pair["difference"]), span, f"{pair['p_value']:.2g}", f"{pair['p_adjusted']:.2g}"]
            row = [_title(factor), value["value"], percent(rate["value"]), interval(rate), f"{rate['n']:,}", *compared]
            rows.append(row)
    headers = ("factor", "value", "accuracy", "95 % interval", "n", "difference", "95 % interval", "p", "p, adjusted")
    return Table(headers, rows, numeric=frozenset(range(2, len(headers))))
