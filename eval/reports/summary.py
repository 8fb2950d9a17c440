"""Several checkpoints of one run under one evaluation: a table, and which of them is the best."""

from collections.abc import Mapping, Sequence
from typing import Any

from configs.eval_dir import ResultsDir
from data_prep.atomic import write_bytes, write_json
from data_prep.page import Page, Table, Text
from eval.metrics.question_metrics import GRADED, NAMES
from eval.reports.formatting import headline, interval, main_number, percent, protocol_tag
from eval.runner.as_trained import training_differences
from eval.runner.output_paths import OutputPaths

NEW_LINE = "\n  "


def result_line(report: Mapping[str, Any]) -> str:
    """The result of one evaluation in one line, and a line for each setting that is not as in training."""
    items, accuracy = report["items"], report["accuracy"]
    rest = [
        f"{items[what]:,} {words}"
        for what, words in (("failed", "failed"), ("missing", "not evaluated yet"))
        if items[what]
    ]
    unlabelled = (report.get("label_sets") or {}).get("unlabelled", 0)
    rest += [f"{unlabelled:,} left out without a label"] if unlabelled else []
    paper = report["paper"]
    tail = "".join(f", {text}" for text in rest)
    if not accuracy["n"]:
        if report.get("protocol", {}).get("task") == GRADED and items["answered"]:
            return f"{report['name']} {report['label']}: {headline(report)}{tail} [protocol {protocol_tag(report)}]"
        return f"{report['name']} {report['label']}: no accuracy, as no item was answered{tail}"
    published = f"; the paper has {percent(paper['value'])} ({paper['source']})" if paper else ""
    return (
        f"{report['name']} {report['label']}: {headline(report)} ({interval(accuracy)}, "
        f"n = {accuracy['n']:,}), {further_numbers(report)}{percent(report['no_answer']['value'])} without an answer"
        f"{tail}{published} [protocol {protocol_tag(report)}]"
        f"{''.join(f'{NEW_LINE}not as trained: {text}' for text in training_differences(report))}"
    )


def further_numbers(report: Mapping[str, Any]) -> str:
    """F1 score and share of yes of a yes-or-no evaluation, each followed by a comma; else empty."""
    found = report.get("numbers", {})
    return "".join(
        f"{NAMES[name]} {percent(found[name]['value'])} ({interval(found[name])}), "
        for name in ("f1", "yes_ratio")
        if name in found
    )


def write_summary(paths: OutputPaths, reports: Sequence[Mapping[str, Any]]) -> str:
    """Write summary.json and summary.md next to the reports' folders; return the table as Markdown."""
    best = max(reports, key=lambda report: main_number(report)["value"] or 0.0)
    rows = [
        [
            report["label"] + (" (best)" if report is best else ""),
            percent(main_number(report)["value"]),
            interval(main_number(report)),
            f"{main_number(report)['n']:,}",
            percent(report["no_answer"]["value"]),
        ]
        for report in reports
    ]
    table = Table(("model", "accuracy", "95 % interval", "n", "no answer"), rows, numeric=frozenset(range(1, 5)))
    note = "The best was chosen on these items, so its accuracy here is a little too high; report it on others."
    equal = sum(main_number(report)["value"] == main_number(best)["value"] for report in reports)
    which = "is the best of" if equal == 1 else f"is the first of {equal} equally good ones among"
    text = Page(f"{best['name']}: {best['label']} {which} {len(reports)}", [table, Text(note)]).markdown()
    values = {
        "name": best["name"],
        "best": best["label"],
        "models": {report["label"]: report["accuracy"] for report in reports},
    }
    files = ResultsDir(paths.root)
    write_json(files.summary("json"), values)
    write_bytes(files.summary("md"), text.encode())
    return text
