"""Which rows of the paper a result belongs beside: pure functions of a report's or a probe's content.

A row's name is EXPERIMENT/MODEL/DATASET (`eval/reporting/paper_numbers.json`). Model and dataset come from the
evaluation's `paper_row` if it has one, else from a model's well-known id and the source's name; the experiment from the
protocol, so that a run with other candidates, another order or another rule stands beside its own row unasked.
"""

from collections.abc import Mapping
from typing import Any

DATASETS = {"imagenet": "ImageNet", "flowers": "Flowers102", "cars": "StanfordCars", "caltech": "Caltech101"}
MODELS = {
    "llava-1.5-7b": "LLaVA1.5-7B",
    "llava-1.5-13b": "LLaVA1.5-13B",
    "llava-v1.6-vicuna-7b": "LLaVANeXT-V7B",
    "llava-v1.6-mistral-7b": "LLaVANeXT-M7B",
    "blip2-opt-2.7b": "BLIP2-2.7B",
    "instructblip-vicuna-7b": "IBLIP-7B",
    "instructblip-vicuna-13b": "IBLIP-13B",
    "clip-vit-large-patch14-336": "CLIP-L",
}
WORDINGS = {"paper": "base", "identify": "identify", "main_object": "main_object"}
CHAIN_OF_THOUGHT = "step by step"


def model_and_dataset(result: Mapping[str, Any]) -> tuple[str, str]:
    """The paper's names of a result's model and dataset; its own where the paper has none.

    >>> model_and_dataset({"model": "llava-hf/llava-1.5-7b-hf", "source": "flowers102_test", "paper": None})
    ('LLaVA1.5-7B', 'Flowers102')
    """
    paper, source, place = result.get("paper"), str(result["source"]).lower(), str(result["model"])
    model = next((name for key, name in MODELS.items() if key in place.lower()), place)
    dataset = next((name for key, name in DATASETS.items() if key in source), str(result["source"]))
    if "imagewikiqa" in source:
        dataset = "ImageWikiQA"
    if paper:
        model, dataset = str(paper["row"]).rsplit("/", 2)[1:]
    return model, dataset


def experiments(protocol: Mapping[str, Any]) -> list[str]:
    """The paper's experiments that a protocol is, of Tables 1, 2, 5, 8, 9 and 12."""
    kind, wording = protocol["kind"], WORDINGS.get(str(protocol.get("prompt")))
    candidates = protocol.get("candidates")
    thinks = CHAIN_OF_THOUGHT in str(protocol.get("answer_prefix", "")).lower()
    if kind == "open_world" and protocol.get("synonyms"):
        return ["table8/with_synonyms"]
    if kind == "open_world" and wording and not thinks:
        first = ["table1/open_world", "table8/without_synonyms", "table2/direct", "table4/zero_shot"]
        return [*(first if wording == "base" else []), f"table2/{wording}", f"table12/{wording}"]
    if kind == "closed_world" and wording == "base":
        if candidates is not None:
            return [f"table9/candidates_{candidates}"]
        order = f"{protocol.get('order', 'random')}_order{'_cot' if thinks else ''}"
        closed = ["table1/closed_world"] if order == "random_order" else []
        return [*closed, f"table2/{order}", f"table12/{order}"]
    if kind == "multiple_choice" and protocol.get("show_image", True):
        return ["table5"]
    if kind == "class_scoring" and candidates is None:
        return [f"table2/{protocol['rule']}"]
    return []


def rows_of_report(report: Mapping[str, Any], known: Mapping[str, Any]) -> list[str]:
    """Rows of the paper that the accuracy of a report stands beside: the configured one, and those it is by itself.

    A fine-tuned model's report names its own row (table3/finetuned/...) and belongs to no zero-shot row.
    """
    paper = report.get("paper")
    if paper and str(paper["row"]).split("/")[0] not in ("table1", "table2", "table9", "table12"):
        return [str(paper["row"])]
    model, dataset = model_and_dataset(report)
    if report["protocol"].get("name_class") and not model.endswith(" with class"):
        model = f"{model} with class"
    found = [f"{experiment}/{model}/{dataset}" for experiment in experiments(report["protocol"])]
    return [row for row in found if row in known]


def rows_of_correlation(report: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, float | None]:
    """Rows of Table 11 and Figure 3 that a report with class frequencies has a number for."""
    frequency = report.get("frequency")
    if not frequency:
        return {}
    model, dataset = model_and_dataset(report)
    if report.get("paper") and "finetuned" in report["paper"]["row"]:
        model = f"{model} finetuned"
    bins = {part["name"]: part["mean_accuracy"] for part in frequency["log_bins"]}
    rare = [_accuracy(c) for c in report["classes"] if c["frequency"] is not None and c["frequency"] < 10]
    values = {
        f"table11/spearman/{model}/{dataset}": frequency["spearman"],
        f"table11/pearson/{model}/{dataset}": frequency["pearson"],
        f"figure3/above_10000/{model}/{dataset}": bins.get("10,000 or more"),
        f"figure3/below_10/{model}/{dataset}": sum(rare) / len(rare) if rare else None,
    }
    return {row: value for row, value in values.items() if row in known}


def _accuracy(result: Mapping[str, Any]) -> float:
    return float(result["right"] / max(1, result["right"] + result["wrong"] + result["no_answer"]))


def rows_of_probe(probe: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Rows of Tables 3 and 10 to the rate that a probe has for them."""
    model, dataset = model_and_dataset(probe)
    found: dict[str, Mapping[str, Any]] = {}
    for place, result in probe["places"].items():
        named = {"-1": "last", "mean": "average"}.get(place)
        rows = [f"table10/{place}/{model}/{dataset}", f"table3/probing/{model}/{named}/{dataset}"]
        found |= {row: result["accuracy"] for row in rows if row in known}
    return found
