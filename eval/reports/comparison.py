"""Several models side by side, from their reports: accuracies, and differences over the items that both answered."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from configs.errors import RunError
from configs.eval_dir import EvalDir, ResultsDir
from configs.run_dir import RunDir
from data_prep.page import Page
from data_prep.run_index import read_result, write_result
from eval.reports.class_halves import half_values
from eval.reports.compared_answers import changes_from_first, compared_answers, pairwise_tests
from eval.reports.comparison_page import comparison_page, evaluation_names
from eval.reports.grade_blocks import grading_warnings
from eval.reports.most_frequent import most_frequent_of_all
from eval.reports.seeds_page import recipe_values

Reports = Mapping[str, Mapping[str, Any]]  # evaluation name to the content of its report.json


def read_reports(folder: Path) -> dict[str, dict[str, Any]]:
    """Evaluation's name to report, of all evaluations in `folder`, or the folder of one evaluation or of a run.

    Raises `RunError` if there is none, or two have one name.
    """
    if not folder.is_dir():
        raise RunError(f"no folder {folder}; evaluate the model first with `python -m eval.run --config FILE`")
    if (own := EvalDir(folder).report("json")).is_file() and "accuracy" in (single := _load(own)):
        return {single["name"]: single}
    found = [report for path in sorted(folder.glob("*/")) if (report := _read_report(path)) is not None]
    if not found and (of_run := RunDir(folder).evaluations).is_dir():
        return read_reports(of_run)
    if not found:
        raise RunError(
            f"{folder} holds no evaluation with a report.json; give the folder of an evaluation, or of several, or run "
            "`python -m eval.run --report-only` first"
        )
    names = [report["name"] for report in found]
    if len(found) > 1 and len(set(names)) == 1 and (chosen := _read_report(folder)) is not None:
        return {chosen["name"]: chosen}  # the checkpoints of one evaluation
    if twice := sorted({name for name in names if names.count(name) > 1}):
        places = [str(report["folder"]) for report in found if report["name"] == twice[0]]
        raise RunError(
            f"two reports in {folder} are called {twice[0]!r} ({', '.join(places)}); give one of the folders"
        )
    return {report["name"]: report for report in found}


def _read_report(folder: Path) -> dict[str, Any] | None:
    """The report in `folder`, or that of the label that counts; None if there is none."""
    if EvalDir(folder).report("json").is_file():
        return _load(EvalDir(folder).report("json"))
    labels = {path.name: EvalDir(path).report("json") for path in sorted(folder.glob("*/"))}
    labels = {name: path for name, path in labels.items() if path.is_file()}
    if not labels:
        return None
    chosen = next(iter(labels)) if len(labels) == 1 else "export"
    if chosen not in labels:
        summary = ResultsDir(folder).summary("json")
        chosen = _load(summary)["best"] if summary.is_file() else chosen
    if chosen not in labels:
        raise RunError(
            f"{folder} has reports of {', '.join(labels)}, and no summary.json to say which counts; rerun it"
        )
    return _load(labels[chosen])


def _load(path: Path) -> dict[str, Any]:
    return read_result(path) | {"folder": str(path.parent)}


def comparison(models: Mapping[str, Reports]) -> dict[str, Any]:
    """The content of report.json: for each model and evaluation the accuracy and the difference to the first model.

    `paired` has its interval and p-value, from the items that both answered (if stored in the reports' folders);
    `pairs` has the same of any two models, `changes` the classes and items that differ from the first model's,
    `halves` the accuracies on base and new classes, `most_frequent` what always giving the most frequent answer earns.
    """
    rows = {name: {key: _accuracy_entry(report) for key, report in reports.items()} for name, reports in models.items()}
    names = evaluation_names(models)
    pairs: dict[str, list[dict[str, Any]]] = {}
    changes: dict[str, dict[str, Any]] = {}
    for evaluation in names:
        reports = {name: found[evaluation] for name, found in models.items() if evaluation in found}
        answers = {name: compared_answers(report) for name, report in reports.items()}
        pairs[evaluation] = pairwise_tests(reports, answers)
        changes[evaluation] = changes_from_first(models, evaluation, answers)
    for name in list(models)[1:]:
        for evaluation, report in models[name].items():
            if (reference := models[next(iter(models))].get(evaluation)) is not None:
                rows[name][evaluation] |= _difference(reference, report, pairs[evaluation], (next(iter(models)), name))
    return {
        "evaluations": names,
        "models": rows,
        "most_frequent": {name: most_frequent_of_all(models, name) for name in names},
        "recipes": recipe_values(rows),
        "halves": half_values(models),
        "pairs": pairs,
        "changes": changes,
    }


def _difference(
    first: Mapping[str, Any], second: Mapping[str, Any], pairs: Sequence[Mapping[str, Any]], names: tuple[str, str]
) -> dict[str, Any]:
    """The difference of two models: paired if their answers are known, else of their accuracies."""
    paired = next((pair for pair in pairs if (pair["first"], pair["second"]) == names), None)
    values = second["accuracy"]["value"], first["accuracy"]["value"]
    difference = None if None in values else values[0] - values[1]
    return {"difference": paired["difference"] if paired else difference, "paired": paired}


def _accuracy_entry(report: Mapping[str, Any]) -> dict[str, Any]:
    """What the comparison says of a report by itself."""
    frequency = report["frequency"] or {"thirds": [], "spearman": None, "pearson": None}
    return {
        "label": report["label"],
        "accuracy": report["accuracy"],
        "no_answer": report["no_answer"],
        "difference": None,
        "paired": None,
        "protocol": report["protocol"]["hash"],
        "thirds": {part["name"]: part["mean_accuracy"] for part in frequency["thirds"]},
        "spearman": frequency["spearman"],
        "pearson": frequency["pearson"],
        "grades": {
            entry["grader"]: {key: entry[key] for key in ("accuracy", "mean_score", "settings")}
            | {"warnings": grading_warnings(entry)}
            for entry in report.get("grades") or ()
        },
    }


def write_comparison(models: Mapping[str, Reports], folder: EvalDir) -> Page:
    """Write report.md, report.html and report.json into `folder`; returns the page."""
    values = comparison(models)
    page = comparison_page(models, values, folder.root)
    write_result(folder.report, values, page)
    return page
