"""The part of a comparison about training seeds: mean and spread of each recipe's runs, as values and as tables."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from data_prep.page import Table
from eval.metrics.seeds import Spread, display_name, seeds_by_recipe
from eval.reports.formatting import percent, points

Rows = Mapping[str, Mapping[str, Mapping[str, Any]]]  # run's name to evaluation's name to its row of the comparison
MEANING = (
    "Mean ± standard deviation over the training seeds; all seeds answer the same questions. The rows of each seed "
    "have the intervals that the number of questions gives."
)


def recipe_values(rows: Rows) -> dict[str, dict[str, dict[str, Any]]]:
    """Recipe to evaluation to `runs` and the spreads of accuracy, difference, thirds and correlations over them.

    An evaluation that one of the recipe's runs lacks is left out.
    """
    return {
        recipe: {
            evaluation: _values(runs, [rows[run][evaluation] for run in runs])
            for evaluation in rows[runs[0]]
            if all(evaluation in rows[run] for run in runs)
        }
        for recipe, runs in seeds_by_recipe(rows).items()
    }


def _values(runs: Sequence[str], results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    names = [name for name in results[0]["thirds"] if all(name in result["thirds"] for result in results)]
    return {
        "runs": list(runs),
        "accuracy": spread(result["accuracy"]["value"] for result in results),
        "difference": spread(result["difference"] for result in results),
        "thirds": {name: spread(result["thirds"][name] for result in results) for name in names},
        "spearman": spread(result["spearman"] for result in results),
        "pearson": spread(result["pearson"] for result in results),
    }


def spread(values: Iterable[float | None]) -> dict[str, Any] | None:
    """Mean, standard deviation and values as in report.json; None where a seed has no value."""
    known = Spread.of(values)
    return None if known is None else known.to_json()


def recipe_table(recipes: Rows, evaluations: Sequence[str], models: Rows) -> Table:
    """A row a recipe: accuracy and difference to the first recipe in every evaluation; `models` has each run's rows.

    An evaluation that some of the seeds lack has no mean: the cell says how many have it.
    """
    first = next(iter(recipes))
    headers = ["model", "seeds", *(part for name in evaluations for part in (name, f"vs {first}"))]
    rows = []
    for recipe, runs in seeds_by_recipe(models).items():
        cells = []
        for name in evaluations:
            had = sum(name in models[run] for run in runs)
            lacking = f"{had} of {len(runs)} seeds" if had else "not run"
            cells += _cells(recipes[recipe].get(name), lacking)
        rows.append([recipe, _seeds(recipe, runs), *cells])
    return Table(headers, rows, numeric=frozenset(range(1, len(headers))))


def seed_warnings(models: Rows) -> list[str]:
    """Where the runs of one recipe are no seeds of it: trained otherwise, or the same weights; `models` has reports."""
    texts = []
    for recipe, runs in seeds_by_recipe(models).items():
        trained = {run: _trainings(models[run].values()) for run in runs}
        if len(set(trained.values())) > 1:
            found = "; ".join(f"{display_name(run)}: {how or 'unknown'}" for run, how in trained.items())
            texts.append(f"{recipe}: these runs are not seeds of one recipe, their trainings differ ({found}).")
        same = [
            weights for run in runs for weights in {report["protocol"].get("model") for report in models[run].values()}
        ]
        if len(runs) > 1 and len(set(same)) < len(same) and None not in same:
            texts.append(f"{recipe}: several of its runs have the same weights; the spread is no spread over seeds.")
    return texts


def _trainings(reports: Iterable[Mapping[str, Any]]) -> str:
    """How the model of `reports` was trained, by base, parameters and data; empty where no report says it."""
    found = []
    for model in (report.get("evaluated_model") or {} for report in reports):
        if model:
            onto = f", LoRA merged onto {model['lora_onto']}" if model.get("lora_onto") else ""
            sources = " + ".join(model["sources"]) or "nothing"
            found.append(f"{model['base']}, {model['mode'] or 'not trained'} on {sources}{onto}")
    return " or ".join(sorted(set(found)))


def frequency_table(recipes: Rows, evaluation: str) -> Table:
    """A row a recipe: mean accuracy of the classes in each third by frequency, and the correlations."""
    values = {recipe: of[evaluation] for recipe, of in recipes.items() if of.get(evaluation, {}).get("thirds")}
    thirds = list(next(iter(values.values()))["thirds"]) if values else []
    headers = ["model", "seeds", *thirds, "Spearman", "Pearson"]
    rows = [
        [
            recipe,
            _seeds(recipe, of["runs"]),
            *(spread_text(of["thirds"].get(third), percent) for third in thirds),
            *(spread_text(of[kind], "{:.2f}".format) for kind in ("spearman", "pearson")),
        ]
        for recipe, of in values.items()
    ]
    return Table(headers, rows, numeric=frozenset(range(1, len(headers))))


def spread_text(spread: Mapping[str, Any] | None, text: Callable[[float], str]) -> str:
    """Mean ± standard deviation, both written by `text`.

    >>> spread_text({"mean": 0.575, "deviation": 0.012}, percent)
    '57.5 ± 1.2 %'
    """
    if spread is None:
        return "n/a"
    if spread["deviation"] is None:
        return text(spread["mean"])
    mean, deviation = text(spread["mean"]), text(spread["deviation"])
    return f"{mean.removesuffix(' %')} ± {deviation.removeprefix('+')}"


def _seeds(recipe: str, runs: Sequence[str]) -> str:
    """How many seeds; nothing for a model without one, such as the untrained base."""
    return "" if list(runs) == [recipe] else str(len(runs))


def _cells(result: Mapping[str, Any] | None, lacking: str) -> list[str]:
    """Accuracy and difference; `lacking` where not every seed has a result."""
    if result is None:
        return [lacking, ""]
    difference = "" if result["difference"] is None else spread_text(result["difference"], points)
    return [spread_text(result["accuracy"], percent), difference]
