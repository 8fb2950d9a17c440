"""The rows of the paper that a result is compared with: pure functions of the content of a report or a probe.

A row is named EXPERIMENT/MODEL/DATASET (`eval/paper/numbers.json`). MODEL and DATASET are found by the model's id and
the source's name, which must match completely: other models and sources have no row with any preset. EXPERIMENT
follows from the protocol, so a run with other candidates, another order or another rule is compared with the row of its
settings. A model trained here is compared with the paper's fine-tuned rows only (`eval/paper/finetuned_rows.py`).
"""

from collections.abc import Mapping
from typing import Any

from configs.question import FILE_DRAWS
from eval.paper.finetuned_rows import (
    GENERAL_SOURCES,
    GENERAL_TASKS,
    TEST_SOURCES,
    TRAINING_SOURCES,
    finetuned_rows,
    paper_model,
    training_of,
    uses_chain_of_thought,
)
from eval.runner.as_trained import asked_as_trained

WORDINGS = {"paper": "base", "identify": "identify", "main_object": "main_object"}
STAGES = {"pretrain": ("pretrain", "558k", "alignment", "blip_laion"), "instruct": ("instruct", "665k", "mix665")}


_DATASETS = TEST_SOURCES | GENERAL_SOURCES


def model_and_dataset(result: Mapping[str, Any]) -> tuple[str, str]:
    """The paper's names of a result's model and dataset, or the result's own names if the paper has none.

    >>> model_and_dataset({"model": "llava-hf/llava-1.5-7b-hf", "source": "flowers102_test", "paper": None})
    ('LLaVA1.5-7B', 'Flowers102')
    """
    source, model = str(result["source"]), str(result["model"])
    dataset = _DATASETS.get(source.lower(), source)
    if (half := result.get("class_half")) is not None:  # the paper has no number for half of the classes
        dataset = f"{source} ({half['part']} classes)"
    if training_of(result) is not None:
        return model, dataset
    return paper_model(str((result.get("evaluated_model") or {}).get("base", model))) or model, dataset


def experiments(protocol: Mapping[str, Any]) -> list[str]:
    """The paper's experiments in Tables 1, 2, 5, 8, 9 and 12 that use this protocol."""
    kind, wording = protocol["task"], WORDINGS.get(str(protocol.get("prompt")))
    candidates = protocol.get("candidates")
    reasons = uses_chain_of_thought(protocol)
    if protocol.get("candidate_draw") in FILE_DRAWS:
        return []  # hard candidates: the paper's are drawn at random
    if protocol.get("labels"):
        return []  # the paper has one label for each image
    if kind == "open_world" and protocol.get("synonyms"):
        if wording != "base" or reasons:
            return []
        plain = protocol.get("name") == "clean"  # our own protocol always accepts synonyms
        return ["table8/with_synonyms", *(["table1/open_world", "table2/base", "table2/direct"] if plain else [])]
    if kind == "open_world" and wording and not reasons:
        first = ["table1/open_world", "table8/without_synonyms", "table2/direct", "table4/zero_shot"]
        return [*(first if wording == "base" else []), f"table2/{wording}", f"table12/{wording}"]
    if kind == "closed_world" and wording == "base":
        order = f"{protocol.get('order', 'random')}_order{'_cot' if reasons else ''}"
        if candidates is not None:
            return [f"table9/candidates_{candidates}"] if order == "random_order" else []
        closed = ["table1/closed_world"] if order == "random_order" else []
        return [*closed, f"table2/{order}", f"table12/{order}"]
    if kind == "multiple_choice" and protocol.get("choice_prompt", "stored") == "stored":
        return ["table5"] if protocol.get("show_image", True) else []
    if kind == "multiple_choice" and not protocol.get("show_image", True):  # GPT-4 as the filter of the questions
        return ["table5"] if protocol.get("reveal_class") else ["table5 without image"]
    if kind in GENERAL_TASKS:
        return ["table13/before"]
    if kind == "zero_shot":
        return ["table1/closed_world" if candidates is None else f"table9/candidates_{candidates}"]
    if kind == "class_likelihood" and candidates is None and wording == "base" and not reasons:
        return [f"table2/{protocol['rule']}"]
    return []


def rows_of_report(report: Mapping[str, Any], known: Mapping[str, Any]) -> list[str]:
    """Rows of the paper to compare a report's accuracy with: by its protocol, or by the training of its model."""
    protocol = report["protocol"]
    model, dataset = model_and_dataset(report)
    training = training_of(report)
    if training is not None:
        return [row for row in finetuned_rows(training, protocol, dataset) if row in known and asked_as_trained(report)]
    return [row for row in published_rows(protocol, model, dataset) if row in known]


def published_rows(protocol: Mapping[str, Any], model: str, dataset: str) -> list[str]:
    """Names of the rows to compare a published model with under this protocol; the paper may lack some."""
    if protocol.get("reveal_class") and not model.endswith(" with class"):
        model = f"{model} with class"
        filtered = protocol.get("choice_prompt", "stored") == "filter"
        if filtered != model.startswith("GPT4"):  # the two models that the paper names the class to are asked otherwise
            return []
    rows = []
    for experiment in experiments(protocol):
        name, _, suffix = experiment.partition(" ")
        rows.append(f"{name}/{model}{f' {suffix}' if suffix else ''}/{dataset}")
    return rows


def own_row(row: str | None, report: Mapping[str, Any], known: Mapping[str, Any]) -> str | None:
    """The row for a report's model and protocol, given the `paper_row` of its evaluation; None if the paper has none.

    A preset names the row of the model and protocol it was written for. For another model of the paper, or a protocol
    of another experiment (other candidates, another order or rule), it is that model's or experiment's row; for a
    fine-tuned model the row of its training.
    """
    if row is None:
        return None
    training, model = training_of(report), paper_model(str(report["evaluated_model"]["base"]))
    dataset = row.rsplit("/", 1)[1]
    if model is None:
        return None
    if _DATASETS.get(str(report["source"]).lower()) != dataset or report.get("class_half") is not None:
        return None
    protocol = report["protocol"]
    if training is not None and not asked_as_trained(report):
        return None
    rows = finetuned_rows(training, protocol, dataset) if training else published_rows(protocol, model, dataset)
    return row if row in rows else next((own for own in rows if own in known), None)


def rows_of_correlation(report: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, float | None]:
    """Rows of Table 11, Appendix B.6 and Figure 3 that a report with class frequencies has a number for."""
    frequency = report.get("frequency")
    if not frequency:
        return {}
    model, dataset = model_and_dataset(report)
    training = training_of(report)
    protocol = report["protocol"]
    if (
        training is None
        and protocol["task"] != "zero_shot"
        and "table2/base" not in experiments({**protocol, "synonyms": None})
    ):
        return {}
    if training is not None:
        imagenet = [row for row in finetuned_rows(training, protocol, "ImageNet") if row.startswith("table3/")]
        compared = asked_as_trained(report) and training.mode == "projector"
        if not compared or not imagenet:  # Table 11 and Figure 3: fine-tuned on ImageNet alone
            return {}
        model = f"{paper_model(training.base) or training.base} finetuned"
    bins = {part["name"]: part["mean_accuracy"] for part in frequency["log_bins"]}
    rare = [_accuracy(c) for c in report["classes"] if c["frequency"] is not None and c["frequency"] < 10]
    values = {
        f"table11/spearman/{model}/{dataset}": frequency["spearman"],
        f"table11/pearson/{model}/{dataset}": frequency["pearson"],
        f"figure3/above_10000/{model}/{dataset}": bins.get("10,000 or more", bins.get("10,000 to 99,999")),
        f"figure3/below_10/{model}/{dataset}": sum(rare) / len(rare) if rare else None,
    }
    for stage, result in (report.get("frequency_stages") or {}).items():
        named = next((name for name, words in STAGES.items() if any(word in stage.lower() for word in words)), None)
        values |= {f"appendixB6/{key}_{named}/{model}/{dataset}": value for key, value in result.items()}
    return {row: value for row, value in values.items() if row in known}


def _accuracy(result: Mapping[str, Any]) -> float:
    return float(result["correct"] / max(1, result["correct"] + result["wrong"] + result["no_answer"]))


def rows_of_probe(probe: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Row of Tables 3, 4 or 10 to the probe's rate.

    Table 10 has position 600, which B.4's question (597 tokens) has only behind a system prompt; Table 3 is without.
    """
    model, dataset = model_and_dataset(probe)
    learned = probe.get("train_source")
    if learned is not None and TRAINING_SOURCES.get(str(learned).lower()) != dataset:
        return {}
    found: dict[str, Mapping[str, Any]] = {}
    for position, result in probe["token_positions"].items():
        if position in ("image_embeds", "vision_pooled"):
            encoder = (
                "EVA-G" if (position, model) == ("vision_pooled", "BLIP2-2.7B") else model
            )  # the paper's name for it
            heads = (f"table3/finetuned/{encoder}/linear/{dataset}", f"table4/linear/{encoder}/{dataset}")
            found |= {row: result["accuracy"] for row in heads if row in known}
            continue
        named = {"-1": "last", "mean": "average"}.get(position)
        rows = [f"table10/{position}/{model}/{dataset}"] if _system_prompt(probe) is not False else []
        rows += [f"table3/probing/{model}/{named}/{dataset}"] if asks_as_table_3(probe) else []
        found |= {row: result["accuracy"] for row in rows if row in known}
    return found


def _system_prompt(probe: Mapping[str, Any]) -> bool | None:
    """Whether a probe's question began with a system prompt; None where probe.json does not say it."""
    system = (probe.get("protocol") or {}).get("system_prompt")
    return None if system is None else system not in ("none", "official")


def asks_as_table_3(probe: Mapping[str, Any]) -> bool:
    """Whether the question is Table 3's: under the protocols of the paper, it has no system prompt."""
    named = (probe.get("protocol") or {}).get("name") in ("paper", "official")
    return not (named and _system_prompt(probe))
