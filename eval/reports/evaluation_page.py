"""How a report looks: the content of report.json laid out as a page."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from configs.run_dir import step_of
from data_prep.page import Block, Figure, Folded, Heading, Numbers, Page, Table, Text
from data_prep.page_gallery import Gallery
from eval.metrics.accuracy import class_results
from eval.metrics.question_metrics import GRADED, NAMES
from eval.reports.class_blocks import class_blocks, confusion_blocks
from eval.reports.class_score_blocks import class_score_blocks
from eval.reports.cut_answers import cut_note
from eval.reports.figures import frequency_figure
from eval.reports.formatting import accuracy_name, correlated, headline, interval, percent, points
from eval.reports.grade_blocks import grade_blocks
from eval.reports.identity_blocks import identity_block, protocol_blocks
from eval.reports.item_gallery import listed, shortened
from eval.reports.label_sets import label_set_blocks
from eval.reports.most_frequent import most_frequent_row, not_above_note
from eval.reports.provenance import provenance_blocks
from eval.reports.tracked_values import OUTCOMES
from eval.runner.as_trained import asked_as_trained, training_differences

SHOWN_ANSWER = 160  # characters


def report_page(report: Mapping[str, Any], items: Gallery | None = None) -> Page:
    """The page of one evaluation; `items` are its items one by one (`eval.reports.item_gallery`)."""
    blocks: list[Block] = [
        identity_block(report),
        *_warnings(report),
        _numbers(report),
        *_candidate_set(report),
        *label_set_blocks(report),
        *_paper(report),
        *grade_blocks(report),
        *_items(items, _examples(report)),
        *class_score_blocks(report),
        *confusion_blocks(report),
        *class_blocks(report),
        *_frequency(report),
        *_failures(report),
        *protocol_blocks(report),
        *provenance_blocks(report.get("provenance", {})),
    ]
    return Page(f"{report['name']}, {_evaluated(report)}: {headline(report)}", blocks)


def _evaluated(report: Mapping[str, Any]) -> str:
    """The run or model, its checkpoint if it is not the export, and the source of the items."""
    step = step_of(str(report["label"]))
    checkpoint = "" if step is None else f" step {step}"
    return f"{Path(report['model']).name}{checkpoint} on {report['source']}"


def _items(items: Gallery | None, examples: Sequence[Block]) -> list[Block]:
    shown = [*([items] if items else []), *examples]
    return [Heading("Items"), *shown] if shown else []


def _warnings(report: Mapping[str, Any]) -> list[Block]:
    items = report["items"]
    warnings: list[Block] = []
    if items["missing"]:
        done = f"{items['expected'] - items['missing']:,} of {items['expected']:,}"
        warnings.append(Text(f"Incomplete: {done} items evaluated so far. Run the same command again.", warning=True))
    if items["failed"]:
        text = f"Items that failed, listed at the end and in none of the numbers: {items['failed']:,}."
        warnings.append(Text(text, warning=True))
    warnings += [Text(f"{note}.", warning=True) for note in (cut_note(report), not_above_note(report)) if note]
    if different := training_differences(report):
        kept = "" if asked_as_trained(report) else " It is not compared with the paper's fine-tuned rows."
        warnings.append(Text(f"Not evaluated as trained: {'; '.join(different)}.{kept}", warning=True))
    return [*warnings, *(Text(f"Data: {note}.", warning=True) for note in report["data_notes"])]


def _numbers(report: Mapping[str, Any]) -> Block:
    items = report["items"]
    part = "" if items["expected"] == items["source"] else f" (of {items['source']:,})"
    answered = ("items", f"{items['answered']:,}", f"answered{part}")
    if not items["answered"]:
        return Numbers([answered])
    return Numbers(
        [
            *_accuracy(report),
            *_macro(report),
            *_further(report),
            answered,
            *_outcomes(report),
            *_several(report),
            *_baselines(report),
            *most_frequent_row(report),
            *_length(report),
        ]
    )


def _accuracy(report: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """The accuracy by the protocol; none for answers that only a grader scores."""
    if report["protocol"].get("task") == GRADED:
        return []
    accuracy = report["accuracy"]
    within = f"95 % interval {interval(accuracy)}{_how(accuracy)}"
    note = f"{within}, n = {accuracy['n']:,}"
    return [(accuracy_name(report), percent(accuracy["value"]), note)]


def _outcomes(report: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Wrong answers, none, and correct ones of those that answer."""
    if report["protocol"].get("task") == GRADED:
        return []
    credited = "correct" if accuracy_name(report) == "accuracy" else "with some credit"
    none, answers = report["no_answer"], report["accuracy_of_answers"]
    return [
        ("wrong", percent(report["wrong"]["value"]), _of(report["wrong"])),
        ("no answer", percent(none["value"]), f"{_of(none)}; counted as not correct"),
        (f"{credited}, of those that answer", percent(answers["value"]), _of(answers)),
    ]


def _how(rate: Mapping[str, Any]) -> str:
    return f" ({rate['interval']})" if "interval" in rate else ""


def _further(report: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Precision, recall, F1 and share of yes, where the task has them."""
    return [
        (
            NAMES.get(name, name),
            percent(number["value"]),
            f"95 % interval {interval(number)} (bootstrap over images), n = {number['n']:,}",
        )
        for name, number in report.get("numbers", {}).items()
    ]


def _candidate_set(report: Mapping[str, Any]) -> list[Block]:
    """Among which classes each item was scored, and by which rule."""
    if not (found := report.get("candidate_set")):
        return []
    number = f"{found['candidates']:,} of {found['classes']:,} classes"
    if found.get("listed", found["classes"]) > found["classes"]:
        number += f" (the list has {found['listed']:,}; those that share a name count as one)"
    chance = f"A random one is correct in {percent(1 / found['candidates'])}"
    return [Text(f"Each item is scored among {number}: {found['chosen']}. The answer: {found['rule']}. {chance}.")]


def _macro(report: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """The mean of the classes' accuracies, where items have classes."""
    macro = report.get("macro_accuracy")
    if not macro or not macro["classes"]:
        return []
    note = f"95 % interval {interval(macro)}; mean of {macro['classes']:,} classes, n = {macro['n']:,}"
    return [("macro accuracy", percent(macro["value"]), note)]


def _several(report: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    several = report["several_classes"]
    if several is None:
        return []
    credited = "not credited" if report["protocol"].get("match") == "name" else "credited if one of them is correct"
    return [("answers that name several classes", percent(several["value"]), f"{_of(several)}; {credited}")]


def _baselines(report: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    baselines = report.get("baselines")
    if not baselines:
        return []
    often = f"{percent(baselines['max_frequency'])} by always giving the most frequent letter, n = {_n(report)}"
    return [("a random letter", percent(baselines["random"]), often)]


def _of(rate: Mapping[str, Any]) -> str:
    return f"{rate['count']:,} of {rate['n']:,}; {interval(rate)}{_how(rate)}"


def _n(report: Mapping[str, Any]) -> str:
    return f"{report['accuracy']['n']:,}"


def _length(report: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """How long answers are; nothing where a model scores classes and writes none."""
    tokens = report["answers"]["mean_tokens"]
    return [("length of an answer", f"{tokens:.1f}", _cut(report))] if tokens else []


def _cut(report: Mapping[str, Any]) -> str:
    return f"tokens, the mean of {report['items']['answered']:,}; {report['answers']['cut']:,} cut at the limit"


def _paper(report: Mapping[str, Any]) -> list[Block]:
    paper = report["paper"]
    if paper is None:
        return []
    ours = paper.get("ours", report["accuracy"])
    inside = {True: "yes", False: "no", None: "n/a"}[paper["inside_interval"]]
    row = [
        f"{paper['row']} ({paper['source']})",
        percent(paper["value"]),
        percent(ours["value"]),
        points(paper["difference"]),
        interval(ours),
        f"{ours['n']:,}",
        inside,
    ]
    headers = ("row", "paper", "ours", "difference", "our 95 % interval", "n", "paper within interval")
    return [Heading("Comparison with the paper"), Table(headers, [row], numeric=frozenset(range(1, 6)))]


def _frequency(report: Mapping[str, Any]) -> list[Block]:
    frequency = report["frequency"]
    if frequency is None or not frequency["classes"]:
        return []
    results = class_results(report)
    caption = (
        f"Each small mark is one of {frequency['classes']:,} classes, the line connects the means of bins. "
        f"{correlated(frequency)}; 95 % intervals. Frequency: samples of the class in "
        f"{', '.join(report['frequency_sources'])}."
    )
    stages = report.get("frequency_stages") or {}
    if len(stages) > 1:
        correlations = (f"{name} {correlated(found)}" for name, found in stages.items())
        caption += f" For single training stages: {'; '.join(correlations)}."
    rows = []
    for part in (*frequency["thirds"], *frequency["log_bins"]):
        counts = [_span(part["low"], part["high"]), f"{part['classes']:,}", percent(part["mean_accuracy"])]
        rate = part["rate"]
        rows.append([part["name"], *counts, percent(rate["value"]), interval(rate), f"{rate['n']:,}"])
    headers = (
        "classes by frequency",
        "occurrences",
        "classes",
        "mean of classes",
        "of all items",
        "95 % interval",
        "n",
    )
    return [
        Heading("Frequency in the training data and accuracy"),
        Figure(frequency_figure({str(report["label"]): results}), caption),
        Table(headers, rows, numeric=frozenset(range(1, 7))),
    ]


def _span(low: int, high: int) -> str:
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _examples(report: Mapping[str, Any]) -> list[Block]:
    drawn = any(example.get("candidates") for example in report["examples"])
    rows = [
        [
            OUTCOMES[example["value"]],
            example["target"]
            + (f" ({example['class']})" if example["class"] not in (None, *example["target"].split(", ")) else ""),
            shortened(example["answer"], SHOWN_ANSWER),
            *([listed(example.get("candidates") or [])] if drawn else []),
            example["reason"],
            example["id"],
        ]
        for example in report["examples"]
    ]
    headers = ("outcome", "expected", "answer", *(("candidates",) if drawn else ()), "why", "item")
    table = Table(headers, rows, code=frozenset({len(headers) - 1}))
    return [Folded("Examples of answers as a table", [table])] if rows else []


def _failures(report: Mapping[str, Any]) -> list[Block]:
    rows = [[failure["id"], failure["reason"]] for failure in report["failures"]]
    return [Heading("Items that failed"), Table(("item", "why"), rows)] if rows else []
