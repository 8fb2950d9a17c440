"""The page that compares several models: the table, warnings about what is not comparable, and figures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_prep.page import Block, Figure, Heading, Page, Table, Text
from data_prep.run_index import listed
from eval.metrics.accuracy import class_results
from eval.metrics.seeds import SEED_MARK, display_name, pooled_classes, seeds_by_recipe
from eval.reports.class_halves import half_blocks
from eval.reports.comparison_blocks import accuracy_chart, change_blocks, pair_blocks, report_links
from eval.reports.figures import frequency_figure
from eval.reports.formatting import correlation, interval, percent, points
from eval.reports.grade_blocks import grader_blocks
from eval.reports.most_frequent import MOST_FREQUENT, most_frequent_cells, not_above_note
from eval.reports.provenance import provenance_differences
from eval.reports.seeds_page import MEANING, frequency_table, recipe_table, seed_warnings

TOLD = (
    "Accuracy with its 95 % interval and number of items. Differences to {first} in points: over the items that both "
    "answered, with the 95 % interval of paired samples and the p-value of McNemar's exact test (here not adjusted for "
    "how many there are); without these if the answers are not in the folders of the reports. Where questions share "
    "images or answers earn parts of a point, interval and test are over images (bootstrap, sign flips)."
)
SIDE_BY_SIDE = 2  # evaluations that fit next to each other on a page
Reports = Mapping[str, Mapping[str, Any]]  # evaluation name to the content of its report.json


def evaluation_names(models: Mapping[str, Reports]) -> list[str]:
    """All evaluations' names: open questions first, as in the paper, then by name."""
    kinds = {name: report["protocol"]["task"] for reports in models.values() for name, report in reports.items()}
    return sorted(kinds, key=lambda name: (kinds[name] != "open_world", name))


def comparison_page(models: Mapping[str, Reports], values: Mapping[str, Any], folder: Path) -> Page:
    """The page in `folder`: the tables of `values` (what `comparison` returns), what is not comparable, and figures."""
    names = evaluation_names(models)
    first = next(iter(models))
    blocks: list[Block] = []
    rows = values["models"]
    if any(SEED_MARK in model for model in models):
        blocks += [recipe_table(values["recipes"], names, rows), Text(MEANING)]
        blocks += [Text(text, warning=True) for text in seed_warnings(models)]
        blocks.append(Heading("Each training seed"))
    charts = [chart for name in names for chart in accuracy_chart(rows, name)]
    blocks.append(accuracy_table(rows, names, values.get("most_frequent") or {}))
    blocks += [Text(text, warning=True) for text in _warnings(models, names)]
    blocks += [*charts, Text(TOLD.format(first=display_name(first)))]
    blocks += report_links(models, folder)
    blocks += half_blocks(values["halves"])
    blocks += pair_blocks(values["pairs"])
    blocks += change_blocks(values["changes"], first)
    blocks += grader_blocks(rows, names)
    for name in names:
        blocks += _frequency(models, name, values["recipes"])
    found = {
        display_name(model): [report.get("provenance", {}) for report in reports.values()]
        for model, reports in models.items()
    }
    blocks += provenance_differences(found)
    return Page(f"Comparison of {listed(list(values['recipes']))}", blocks)


def accuracy_table(values: Mapping[str, Any], names: Sequence[str], most_frequent: Mapping[str, Any]) -> Table:
    """A row a model, as in the paper's Table 5, and one of always giving the `most_frequent` answer.

    `values` and `most_frequent` are parts of a comparison.
    """
    if len(names) > SIDE_BY_SIDE:
        return _long_table(values, names, most_frequent)
    first = next(iter(values))
    headers = ["model", *(part for name in names for part in (name, f"vs {first}"))]
    rows = [
        [display_name(model), *(part for name in names for part in _cells(values[model].get(name)))] for model in values
    ]
    if any(most_frequent.values()):
        rows.append([MOST_FREQUENT, *(part for name in names for part in most_frequent_cells(most_frequent.get(name)))])
    return Table(headers, rows, numeric=frozenset(range(1, len(headers))))


def _long_table(values: Mapping[str, Any], names: Sequence[str], most_frequent: Mapping[str, Any]) -> Table:
    """A row an evaluation and model, where a column an evaluation would make the table too wide."""
    headers = ("evaluation", "model", "accuracy", f"vs {next(iter(values))}")
    rows = []
    for name in names:
        rows += [[name, display_name(model), *_cells(values[model].get(name))] for model in values]
        if found := most_frequent.get(name):
            rows.append([name, MOST_FREQUENT, *most_frequent_cells(found)])
    return Table(headers, rows, numeric=frozenset({2, 3}))


def _cells(result: Mapping[str, Any] | None) -> list[str]:
    if result is None:
        return ["not run", ""]
    accuracy = result["accuracy"]
    if not accuracy["n"]:
        return ["see Graders" if result["grades"] else "no item answered", ""]
    return [f"{percent(accuracy['value'])} ({interval(accuracy)}, n = {accuracy['n']:,})", _difference(result)]


def _difference(result: Mapping[str, Any]) -> str:
    paired = result["paired"]
    if paired is None:
        return "" if result["difference"] is None else points(result["difference"])
    p_value = "p < 0.001" if paired["p_value"] < 0.001 else f"p = {paired['p_value']:.2g}"
    return f"{points(paired['difference'])} ({points(paired['low'])} to {points(paired['high'])}, {p_value})"


def _warnings(models: Mapping[str, Reports], names: Sequence[str]) -> list[str]:
    """What makes two numbers of a column not comparable, and what makes each of them doubtful."""
    texts = []
    for name in names:
        reports = {model: reports[name] for model, reports in models.items() if name in reports}
        for what, values in (
            ("protocols", {model: report["protocol"]["hash"] for model, report in reports.items()}),
            ("test data", {model: report["protocol"]["data"][:12] for model, report in reports.items()}),
        ):
            if len(set(values.values())) > 1:
                found = ", ".join(f"{display_name(model)} {value}" for model, value in values.items())
                texts.append(f"{name}: the models were evaluated with different {what} ({found}).")
        incomplete = [display_name(model) for model, report in reports.items() if report["items"]["missing"]]
        if incomplete:
            texts.append(f"{name}: not all items are evaluated yet by {', '.join(incomplete)}.")
        below = [
            f"{display_name(model)}: {note}" for model, report in reports.items() if (note := not_above_note(report))
        ]
        texts += [f"{name}, {note}." for note in below]
        data = {note: None for report in reports.values() for note in report.get("data_notes", ())}
        texts += [f"{name}: data: {note}." for note in data]
    return texts


def _frequency(models: Mapping[str, Reports], name: str, recipes: Mapping[str, Any]) -> list[Block]:
    reports = {model: reports[name] for model, reports in models.items() if name in reports}
    reports = {model: report for model, report in reports.items() if report["frequency"]}
    if not reports:
        return []
    thirds = {model: report["frequency"]["thirds"] for model, report in reports.items()}
    headers = ["model", *(part["name"] for part in next(iter(thirds.values()))), "Spearman", "Pearson"]
    rows = [
        [
            display_name(model),
            *(f"{percent(part['mean_accuracy'])} (n = {part['rate']['n']:,})" for part in thirds[model]),
            correlation(report["frequency"]["spearman"]),
            correlation(report["frequency"]["pearson"]),
        ]
        for model, report in reports.items()
    ]
    caption = "Each small mark is a class, each line joins the means of bins of the frequency in the training data."
    by_recipe = seeds_by_recipe(reports)
    classes = {
        recipe: pooled_classes([class_results(reports[run]) for run in runs]) for recipe, runs in by_recipe.items()
    }
    with_seeds = len(by_recipe) < len(reports)
    return [
        Heading(f"{name}: frequency in the training data and accuracy"),
        *([frequency_table(recipes, name)] if with_seeds else []),
        Figure(frequency_figure(classes), caption + (" All seeds of a model together." if with_seeds else "")),
        Table(headers, rows, numeric=frozenset(range(1, len(headers)))),
    ]
