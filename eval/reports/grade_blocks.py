"""The graders of an evaluation on its page: a row each, next to the protocol's own score."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from data_prep.page import Block, Folded, Heading, Table, Text
from eval.graders.types import RIGHT
from eval.metrics.seeds import display_name
from eval.reports.formatting import interval, percent, protocol_tag
from eval.reports.item_gallery import shortened

SHOWN_ANSWER = 160  # characters
SHOWN_DIGITS = 12
DIGEST = re.compile("[0-9a-f]{40,}")
NOTE = (
    "Graders score the stored answers a second time; none of these numbers replaces the accuracy by the protocol. "
    "Agreement: share of the graded answers that a grader and the protocol both count as correct or both do not, and "
    "Cohen's kappa."
)


def grade_blocks(report: Mapping[str, Any]) -> list[Block]:
    """A table of all graders, what needs a warning, and each grader's rule with examples; nothing without graders."""
    entries: Sequence[Mapping[str, Any]] = report.get("grades") or ()
    if not entries:
        return []
    return [
        Heading("Graders"),
        _table(report, entries),
        *(Text(text, warning=True) for entry in entries for text in grading_warnings(entry)),
        Text(NOTE),
        *_outcomes(entries),
        *(block for entry in entries for block in _capabilities(entry)),
        *(_folded(entry) for entry in entries),
    ]


def grading_warnings(entry: Mapping[str, Any]) -> list[str]:
    """A sentence for answers without a grade and for grades of other answers."""
    items, name = entry["items"], entry["grader"]
    texts = []
    if items["failed"]:
        texts.append(
            f"Grader {name}: {items['failed']:,} of {items['answers']:,} answers could not be graded; none of its "
            f"numbers counts them (the first: {entry['failures'][0]['reason']}). The same command grades them again."
        )
    if items["missing"]:
        stale = f"; {items['stale']:,} of them were graded when they were other answers" if items["stale"] else ""
        texts.append(
            f"Grader {name}: {items['missing']:,} of {items['answers']:,} answers have no grade{stale}. Run eval.grade "
            "again."
        )
    return texts


def _table(report: Mapping[str, Any], entries: Sequence[Mapping[str, Any]]) -> Table:
    accuracy = report["accuracy"]
    own = f"protocol {protocol_tag(report)}"
    rows = [[own, percent(accuracy["value"]), interval(accuracy), "", "", "", f"{accuracy['n']:,}"]]
    for entry in entries:
        rate, mean, same = entry["accuracy"], entry["mean_score"], entry["agreement"]
        rows.append(
            [
                entry["grader"],
                percent(rate["value"]) if rate else "",
                interval(rate) if rate else "",
                score_text(mean),
                percent(same["rate"]["value"]) if same else "",
                "" if not same else "not defined" if same["kappa"] is None else f"{same['kappa']:.2f}",
                f"{entry['items']['graded']:,}",
            ]
        )
    headers = ("score", "correct", "95 % interval", "mean score", "agreement", "kappa", "n")
    return Table(headers, rows, numeric=frozenset(range(1, 7)))


def score_text(mean: Mapping[str, Any] | None) -> str:
    """A mean of scores with its 95 % interval."""
    if not mean or mean["value"] is None:
        return ""
    within = "" if mean["low"] is None else f" ({mean['low']:.3f} to {mean['high']:.3f})"
    return f"{mean['value']:.3f}{within}"


def _outcomes(entries: Sequence[Mapping[str, Any]]) -> list[Block]:
    """Counts of every outcome but right ones, and of what was noted besides."""
    rows = [
        [entry["grader"], name, f"{rate['count']:,}", percent(rate["value"]), interval(rate)]
        for entry in entries
        for name, rate in (*entry["outcomes"].items(), *entry["flags"].items())
        if name != RIGHT
    ]
    if not rows:
        return []
    headers = ("grader", "outcome", "answers", "share", "95 % interval")
    return [Table(headers, rows, numeric=frozenset(range(2, 5)))]


def _capabilities(entry: Mapping[str, Any]) -> list[Block]:
    """Means by capability and by combination, and the total of each repeated grading."""
    found = entry.get("capabilities")
    if not found:
        return []
    parts = [("total", found["total"]), *found["capabilities"].items()]
    runs = ", ".join(f"{100 * run:.1f}" for run in found["runs"])
    spread = "" if found["deviation"] is None else f"; their standard deviation is {100 * found['deviation']:.1f}"
    return [
        Heading(f"Capabilities by grader {entry['grader']}"),
        _means("capability", parts),
        Text(f"Totals of the repeated gradings: {runs}{spread}. 95 % intervals: bootstrap over images."),
        Folded("Combinations of capabilities", [_means("combination", [*found["combinations"].items()])]),
    ]


def _means(title: str, parts: Sequence[tuple[str, Mapping[str, Any]]]) -> Table:
    rows = [[name, percent(mean["value"]), interval(mean), f"{mean['n']:,}"] for name, mean in parts]
    return Table((title, "mean grade", "95 % interval", "n"), rows, numeric=frozenset({1, 2, 3}))


def _folded(entry: Mapping[str, Any]) -> Folded:
    settings = ", ".join(f"{key} {_short(value)}" for key, value in entry["settings"].items())
    rows = [
        [
            example["outcome"] or "",
            "" if example["score"] is None else f"{example['score']:.3f}",
            example["target"],
            shortened(example["answer"], SHOWN_ANSWER),
            example["why"],
            example["id"],
        ]
        for example in entry["examples"]
    ]
    headers = ("outcome", "score", "expected", "answer", "why", "item")
    blocks: list[Block] = [Text(f"{entry['about'][:1].upper()}{entry['about'][1:]}. Settings: {settings}.")]
    return Folded(f"Grader {entry['grader']}: rule and examples", [*blocks, Table(headers, rows, code=frozenset({5}))])


def _short(value: object) -> str:
    """A setting for a reader: of a digest the first digits, by which two can be compared; report.json has all."""
    text = str(value)
    return text[:SHOWN_DIGITS] if DIGEST.fullmatch(text) else text


def grader_blocks(models: Mapping[str, Mapping[str, Any]], evaluations: Sequence[str]) -> list[Block]:
    """A table of several models' graders; `models` is `models` of a comparison. Nothing without graders.

    Warns of answers without a grade, and where models were graded by one grader under different settings.
    """
    rows, warnings = [], []
    for evaluation in evaluations:
        entries = {model: found[evaluation]["grades"] for model, found in models.items() if evaluation in found}
        for grader in dict.fromkeys(name for grades in entries.values() for name in grades):
            graded = {model: grades[grader] for model, grades in entries.items() if grader in grades}
            rows += [[evaluation, grader, display_name(model), *_cells(entry)] for model, entry in graded.items()]
            warnings += [
                f"{evaluation}, {display_name(model)}: {text}"
                for model, entry in graded.items()
                for text in entry["warnings"]
            ]
            if len({str(sorted(entry["settings"].items())) for entry in graded.values()}) > 1:
                listed = ", ".join(map(display_name, graded))
                warnings.append(
                    f"{evaluation}: the answers of {listed} were graded by {grader} with different settings."
                )
    if not rows:
        return []
    headers = ("evaluation", "grader", "model", "correct", "95 % interval", "mean score", "n")
    return [
        Heading("Graders"),
        Table(headers, rows, numeric=frozenset(range(3, 7))),
        *(Text(text, warning=True) for text in warnings),
        Text("Scores of the same answers by graders, next to the protocol's accuracy above."),
    ]


def _cells(entry: Mapping[str, Any]) -> list[str]:
    rate, mean = entry["accuracy"], entry["mean_score"]
    n = (rate or mean or {"n": 0})["n"]
    shown = [percent(rate["value"]), interval(rate)] if rate else ["", ""]
    return [*shown, score_text(mean), f"{n:,}"]
