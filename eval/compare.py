"""Several models side by side, as in the paper's Table 5: one row a model, one column an evaluation.

    python -m eval.compare --output runs/table base=runs/demo/base/eval mix=runs/demo_mix/eval

NAME=FOLDER: a folder of evaluations, each with a report.json in it or in a folder for each checkpoint (then `export`
counts, or the best one that summary.json names). Prints the table; writes report.md, report.json and report.html.

    mix@1=runs/mix-seed1/eval mix@2=runs/mix-seed2/eval

NAME@SEED=FOLDER: one of several runs of a recipe. The tables then begin with the mean and the standard deviation over
the recipe's seeds.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from configs.command_line import command_parser, exit_on_user_error
from configs.errors import ConfigError, RunError, UserError
from configs.run_dir import EvalDir
from data_prep.atomic import write_bytes
from data_prep.page import Block, Figure, Heading, Page, Table, Text
from eval.metrics.seeds import SEED_MARK, display_name, pooled_classes, seeds_by_recipe
from eval.paired import compare_right, judged_answers, read_right
from eval.reports.evaluation import classes_of
from eval.reports.evaluation_page import correlation, interval, percent, points
from eval.reports.figures import frequency_figure
from eval.reports.seeds_page import MEANING, frequency_table, recipe_table, recipe_values
from eval.runner.output_paths import Place

TOLD = (
    "Accuracy with its 95 % interval and number of items. Differences to {first} in points: over the items that both "
    "answered, with the 95 % interval of paired samples and the p-value of McNemar's exact test (not adjusted for how "
    "many there are); without these where the answers do not lie beside the reports."
)
BESIDE = 2  # evaluations that fit beside each other on a page
Reports = Mapping[str, Mapping[str, Any]]  # evaluation's name to the content of its report.json


def main(argv: Sequence[str] | None = None) -> None:
    """Compare. Exits with code 2 if a folder holds no report."""
    parser = command_parser(__doc__)
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder of the report")
    parser.add_argument("models", nargs="+", metavar="NAME=EVALDIR", help="a model's name and folder of evaluations")
    arguments = parser.parse_args(argv)
    try:
        models = {name: read_reports(folder) for name, folder in map(_named_folder, arguments.models)}
        if len(models) < len(arguments.models):
            raise ConfigError(f"two models share a name among {', '.join(arguments.models)}; give each its own")
        values = comparison(models)
        page = comparison_page(models, values)
        folder = EvalDir(arguments.output)
        folder.root.mkdir(parents=True, exist_ok=True)
        write_bytes(folder.report("md"), page.markdown().encode())
        write_bytes(folder.report("html"), page.html().encode())
        write_bytes(folder.report("json"), (json.dumps(values, indent=1, ensure_ascii=False) + "\n").encode())
    except UserError as error:
        exit_on_user_error(error)
    print(f"{page.markdown()}\n{folder.report('html')}")


def _named_folder(text: str) -> tuple[str, Path]:
    name, equals, folder = text.partition("=")
    if not equals or not name or not folder:
        raise ConfigError(f"{text!r} is not of the form NAME=EVALDIR")
    return name, Path(folder)


def read_reports(folder: Path) -> dict[str, dict[str, Any]]:
    """Evaluation's name to report, of all evaluations in `folder`. Raises `RunError` if there is none."""
    if not folder.is_dir():
        raise RunError(f"no folder {folder}; evaluate the model first with `python -m eval.run --config FILE`")
    found = [report for path in sorted(folder.glob("*/")) if (report := _read_report(path)) is not None]
    if not found:
        raise RunError(f"{folder} holds no evaluation with a report.json; run `python -m eval.run --report-only` first")
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
        summary = Place(folder, in_run=True).summary("json")
        chosen = _load(summary)["best"] if summary.is_file() else chosen
    if chosen not in labels:
        raise RunError(
            f"{folder} has reports of {', '.join(labels)}, and no summary.json to say which counts; rerun it"
        )
    return _load(labels[chosen])


def _load(path: Path) -> dict[str, Any]:
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunError(f"{path} is damaged ({error}); run eval.run --report-only again") from error
    return values | {"folder": str(path.parent)}


def comparison(models: Mapping[str, Reports]) -> dict[str, Any]:
    """The content of report.json: for each model and evaluation the accuracy and the difference to the first model.

    `paired` has its interval and p-value, from the items that both answered, where the answers lie beside the reports.
    """
    rows = {name: {key: _told(report) for key, report in reports.items()} for name, reports in models.items()}
    first, *others = models
    for evaluation, report in models[first].items():
        right = _right(report)
        for name in others:
            other = models[name].get(evaluation)
            if other is not None:
                paired = _paired(right, _right(other)) if _same_items(report, other) else None
                difference = other["accuracy"]["value"] - report["accuracy"]["value"]
                rows[name][evaluation] |= {
                    "difference": paired["difference"] if paired else difference,
                    "paired": paired,
                }
    return {"evaluations": evaluation_names(models), "models": rows, "recipes": recipe_values(rows)}


def _told(report: Mapping[str, Any]) -> dict[str, Any]:
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
    }


def _same_items(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    return bool(first["protocol"]["data"] == second["protocol"]["data"])


def _right(report: Mapping[str, Any]) -> dict[str, bool] | None:
    """Which items are right, None where the answers do not lie beside the report."""
    folder = EvalDir(Path(report["folder"]))
    return read_right(folder) if judged_answers(folder)[0].config.is_file() else None


def _paired(first: Mapping[str, bool] | None, second: Mapping[str, bool] | None) -> dict[str, Any] | None:
    if first is None or second is None or not first.keys() & second.keys():
        return None
    return compare_right(first, second).to_json()


def evaluation_names(models: Mapping[str, Reports]) -> list[str]:
    """All evaluations' names: open questions first, as in the paper, then by name."""
    kinds = {name: report["protocol"]["task"] for reports in models.values() for name, report in reports.items()}
    return sorted(kinds, key=lambda name: (kinds[name] != "open_world", name))


def comparison_page(models: Mapping[str, Reports], values: Mapping[str, Any]) -> Page:
    """The page: the tables of `values` (what `comparison` returns), what is not comparable in them, and figures."""
    names = evaluation_names(models)
    first = next(iter(models))
    blocks: list[Block] = []
    if any(SEED_MARK in model for model in models):
        blocks += [recipe_table(values["recipes"], names), Text(MEANING), Heading("Each training seed")]
    rows = values["models"]
    blocks.append(_table(rows, names) if len(names) <= BESIDE else _long_table(rows, names))
    blocks += [Text(text, warning=True) for text in _warnings(models, names)]
    blocks.append(Text(TOLD.format(first=first)))
    for name in names:
        blocks += _frequency(models, name, values["recipes"])
    return Page("Models side by side", blocks)


def _table(values: Mapping[str, Any], names: Sequence[str]) -> Table:
    """A row a model, as in the paper's Table 5."""
    first = next(iter(values))
    headers = ["model", *(part for name in names for part in (name, f"vs {first}"))]
    rows = [
        [display_name(model), *(part for name in names for part in _cells(values[model].get(name)))] for model in values
    ]
    return Table(headers, rows, numeric=frozenset(range(1, len(headers))))


def _long_table(values: Mapping[str, Any], names: Sequence[str]) -> Table:
    """A row an evaluation and model, where a column an evaluation would make the table too wide."""
    headers = ("evaluation", "model", "accuracy", f"vs {next(iter(values))}")
    rows = [[name, display_name(model), *_cells(values[model].get(name))] for name in names for model in values]
    return Table(headers, rows, numeric=frozenset({2, 3}))


def _cells(result: Mapping[str, Any] | None) -> list[str]:
    if result is None:
        return ["not run", ""]
    accuracy = result["accuracy"]
    return [f"{percent(accuracy['value'])} ({interval(accuracy)}, n = {accuracy['n']:,})", _difference(result)]


def _difference(result: Mapping[str, Any]) -> str:
    paired = result["paired"]
    if paired is None:
        return "" if result["difference"] is None else points(result["difference"])
    p_value = "p < 0.001" if paired["p_value"] < 0.001 else f"p = {paired['p_value']:.2g}"
    return f"{points(paired['difference'])} ({points(paired['low'])} to {points(paired['high'])}, {p_value})"


def _warnings(models: Mapping[str, Reports], names: Sequence[str]) -> list[str]:
    """What makes two numbers of a column not comparable."""
    texts = []
    for name in names:
        reports = {model: reports[name] for model, reports in models.items() if name in reports}
        for what, values in (
            ("protocols", {model: report["protocol"]["hash"] for model, report in reports.items()}),
            ("test data", {model: report["protocol"]["data"][:12] for model, report in reports.items()}),
        ):
            if len(set(values.values())) > 1:
                listed = ", ".join(f"{model} {value}" for model, value in values.items())
                texts.append(f"{name}: the models were asked with different {what} ({listed}).")
        incomplete = [model for model, report in reports.items() if report["items"]["missing"]]
        if incomplete:
            texts.append(f"{name}: not all items are asked yet of {', '.join(incomplete)}.")
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
    classes = {recipe: pooled_classes([classes_of(reports[run]) for run in runs]) for recipe, runs in by_recipe.items()}
    with_seeds = len(by_recipe) < len(reports)
    return [
        Heading(f"{name}: frequency in the training data and accuracy"),
        *([frequency_table(recipes, name)] if with_seeds else []),
        Figure(frequency_figure(classes), caption + (" All seeds of a model together." if with_seeds else "")),
        Table(headers, rows, numeric=frozenset(range(1, len(headers)))),
    ]


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    main()
