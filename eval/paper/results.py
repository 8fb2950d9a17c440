"""What lies in folders of runs and evaluations, sorted by the rows of the paper.

    found = collect([Path("runs")], paper_numbers())
    found.rows["table1/open_world/LLaVA1.5-7B/ImageNet"]        # results, each with interval, n, protocol and folder

Reads report.json, probe.json, guidance.json, reproduction-*.json, records of built questions, and the metrics.jsonl of
runs (their loss curves).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from configs.errors import RunError
from configs.eval_dir import EvalDir, ResultsDir
from data_prep.run_index import read_result
from eval.metrics.accuracy import ClassResult, correlation_interval
from eval.paper.constructions import construction_numbers
from eval.paper.derived import Result, derived
from eval.paper.finetuned_rows import training_of
from eval.paper.loss_curves import LossCurve, read_loss_curves
from eval.paper.model_names import Model, model_names, model_of_result
from eval.paper.other_data import OtherData, other_data
from eval.paper.published import PaperNumber
from eval.paper.rows import (
    asks_as_table_3,
    model_and_dataset,
    published_rows,
    rows_of_correlation,
    rows_of_probe,
    rows_of_report,
)
from eval.reports.formatting import main_number, merged_onto, protocol_tag
from eval.runner.as_trained import training_differences

SIZES = "table7/validation/items/"
REPORT, PROBE, GUIDANCE = (file.name for file in EvalDir(Path()).result_files())
HELD_OUT = "best epoch on held-out training items"  # of a probe.json from before it said so


@dataclass(slots=True)
class CollectedResults:
    """All results below the given folders.

    `rows`: results by row of the paper. `others`: (name, result) without a row. `by_class`: data set to model to class
    results with frequencies. `reproductions`: contents of reproduction-*.json. `other_data`: see its module.
    """

    rows: dict[str, list[Result]] = field(default_factory=dict)
    others: list[tuple[str, Result]] = field(default_factory=list)
    by_class: dict[str, dict[str, list[ClassResult]]] = field(default_factory=dict)
    reproductions: list[dict[str, Any]] = field(default_factory=list)
    curves: list[LossCurve] = field(default_factory=list)
    other_data: list[OtherData] = field(default_factory=list)


def collect(folders: Sequence[Path], known: Mapping[str, PaperNumber]) -> CollectedResults:
    """Sort all results below `folders`. Raises `RunError` for a folder that is not there or a damaged file."""
    for folder in folders:
        if not folder.exists():
            raise RunError(f"no folder {folder}; give runs, or folders of evaluations")
    existing = [folder for folder in folders if folder.is_dir()]
    found = CollectedResults(curves=read_loss_curves(existing))
    for file in sorted({file for folder in existing for file in ResultsDir(folder).reproductions()}):
        found.reproductions.append(_load(file))
    rows = [row for values in found.reproductions for row in values["rows"]]
    reproduced = {Path(row["folder"]).resolve() for row in rows if row["folder"]}
    by_class: dict[str, dict[tuple[Model, str], list[ClassResult]]] = {}
    unnamed: list[tuple[str, Model, Result]] = []
    for file in sorted({file for folder in existing for file in ResultsDir(folder).results()}):
        values = _load(file)
        results = list(_results(values, known, file.name))
        found.other_data += other_data(values, [row for row, _ in results if row])
        for row, result in results:
            if row is not None:
                same = row.startswith(SIZES) and result.value in [other.value for other in found.rows.get(row, ())]
                if not same:  # every evaluation of a data set repeats its size
                    found.rows.setdefault(row, []).append(result)
            elif result.grader or Path(result.run).resolve() not in reproduced:
                unnamed.append((values["name"], model_of_result(values), result))
        _add_classes(by_class, values, file.name)
    found.others = _named(unnamed)
    names = model_names(model for models in by_class.values() for model, _ in models)
    for dataset, models in by_class.items():
        found.by_class[dataset] = {f"{names[model]}{how}": results for (model, how), results in models.items()}
    for row, number, made, built in construction_numbers(existing):
        found.rows.setdefault(row, []).append(Result(number, None, None, None, made, built))
    for row, result in derived(found.rows, known):
        found.rows.setdefault(row, []).append(result)
    return found


def _named(results: Sequence[tuple[str, Model, Result]]) -> list[tuple[str, Result]]:
    """Results with a name each: evaluation and model, and where these are equal the part of the folder that differs."""
    models = model_names(model for _, model, _ in results)
    named = [
        (f"{evaluation}: {models[model]}{result.grader and f', {result.grader}'}", result)
        for evaluation, model, result in results
    ]
    folders: dict[str, set[tuple[str, ...]]] = {}
    for name, result in named:
        folders.setdefault(name, set()).add(Path(result.run).parts)
    return [(f"{name}{_difference(Path(result.run).parts, folders[name])}", result) for name, result in named]


def _difference(folder: tuple[str, ...], same: set[tuple[str, ...]]) -> str:
    """The first part of `folder` that another of `same` does not have in this position, in parentheses."""
    differing = (part for at, part in enumerate(folder) if any(other[at : at + 1] != (part,) for other in same))
    return next((f" ({part})" for part in differing), "")


def _load(file: Path) -> dict[str, Any]:
    return read_result(file, "make it again, or delete it") | {"file": str(file.parent)}


def _results(
    values: Mapping[str, Any], known: Mapping[str, PaperNumber], name: str
) -> Iterator[tuple[str | None, Result]]:
    if name == PROBE:
        yield from _of_probe(values, known)
    elif name == GUIDANCE:
        yield from _of_guidance(values, known)
    elif "accuracy" in values:  # a comparison of several models has a report.json of another structure
        yield from _of_report(values, known)


def _rated(rate: Mapping[str, Any], protocol: str, values: Mapping[str, Any]) -> Result:
    return Result(rate["value"], rate["low"], rate["high"], rate["n"], protocol, values["file"], str(values["model"]))


def _of_report(report: Mapping[str, Any], known: Mapping[str, PaperNumber]) -> Iterator[tuple[str | None, Result]]:
    if not main_number(report)["n"]:
        return  # no items are no number
    tag = f"{protocol_tag(report)}{merged_onto(report)}"
    tag += "".join(f", not as trained: {text}" for text in training_differences(report))
    accuracy = _rated(main_number(report), tag, report)
    rows = rows_of_report(report, known)
    measured = {"accuracy": report["accuracy"], **report.get("numbers", {})}
    yield from (
        (row, _rated(measured[known[row].measure], tag, report)) for row in rows if known[row].measure in measured
    )
    yield from _plain(rows_of_correlation(report, known), (report.get("frequency") or {}).get("classes"), tag, report)
    baselines = report.get("baselines") or {}
    plain = report["protocol"].get("show_image", True) and not report["protocol"].get("reveal_class")
    _, dataset = model_and_dataset(report)
    if plain and dataset == "ImageWikiQA":  # its variants have the same questions
        named = {"random": "table5/Random/ImageWikiQA", "max_frequency": "table5/MaxFreq/ImageWikiQA"}
        yield from _plain({named[key]: value for key, value in baselines.items()}, accuracy.n, tag, report)
    counts = {f"{SIZES}{dataset}": report["items"]["source"]} if "items" in report else {}
    yield from _plain({row: n for row, n in counts.items() if row in known}, None, "shard set", report)
    if not rows:
        yield None, accuracy
    yield from ((None, result) for result in _of_graders(report, tag))


def _of_graders(report: Mapping[str, Any], tag: str) -> Iterator[Result]:
    """Each grader's share of right answers and mean score: never a row of the paper, whose numbers have its rule."""
    for entry in report.get("grades") or ():
        name = f"grader {entry['grader']}"
        for rate, what in ((entry["accuracy"], name), (entry["mean_score"], f"{name}, mean score")):
            if rate and rate["n"]:
                yield replace(_rated(rate, f"{tag}, {what}", report), grader=what)


def _plain(
    values: Mapping[str, float | None], n: int | None, protocol: str, source: Mapping[str, Any]
) -> Iterator[tuple[str, Result]]:
    """Numbers without an interval, but for correlations over `n` classes."""
    for row, value in values.items():
        correlated = n is not None and ("spearman" in row or "pearson" in row)
        bounds = correlation_interval(value, n or 0, ranked="spearman" in row) if correlated else None
        low, high = bounds or (None, None)
        yield row, Result(value, low, high, n, protocol, source["file"], str(source["model"]))


def _of_probe(probe: Mapping[str, Any], known: Mapping[str, PaperNumber]) -> Iterator[tuple[str | None, Result]]:
    rows = rows_of_probe(probe, known)
    positions = probe["token_positions"]
    main = positions.get("-1") or next(iter(positions.values()))  # an image encoder has one position
    tag = f"probe, {probe['epochs']} epochs, {probe.get('chosen', HELD_OUT)}"
    tag += f", {probe['precision']} products" if "precision" in probe else ""
    if isinstance(probe.get("protocol"), Mapping):  # an older file has its name alone, or nothing
        tag = f"{protocol_tag(probe)} {tag}"
    for row, rate in rows.items() if rows else ((None, main["accuracy"]),):
        yield row, _rated(rate, tag, probe)
    _, dataset = model_and_dataset(probe)
    counts = {"train": probe["train"] + probe["val"], "classes": probe["class_count"]}  # some may be held out
    sizes = {f"table7/{what}/items/{dataset}": float(count) for what, count in counts.items()}
    yield from _plain({row: size for row, size in sizes.items() if row in known}, None, "shard set", probe)


def _of_guidance(results: Mapping[str, Any], known: Mapping[str, PaperNumber]) -> Iterator[tuple[str | None, Result]]:
    model, dataset = model_and_dataset(results)
    row = next(
        iter(published_rows({**results["protocol"], "task": "class_likelihood", "rule": "cfg"}, model, dataset)), ""
    )
    own = results["own"]
    for name, swept in sorted(results["forms"].items(), key=lambda form: form[0] != own):
        compared = row in known and name in (own, "paper", "official")  # the paper's words, and its code
        for key, how in (("held_out", "from the other half"), ("swept_on_test", "swept on these items")):
            if swept[key] is not None:
                tag = f"{protocol_tag(results)}, form {name}, t = {swept[key]['guidance']:g} {how}"
                yield (row if compared else None), _rated(swept[key]["accuracy"], tag, results)


def _add_classes(
    by_class: dict[str, dict[tuple[Model, str], list[ClassResult]]], values: Mapping[str, Any], name: str
) -> None:
    """Keep the class results of open questions and probes for the frequency figures."""
    if not values.get("frequency") or (name == REPORT and not _plainly_open(values)):
        return
    _, dataset = model_and_dataset(values)
    how = f"{' (fine-tuned)' if training_of(values) else ''}{merged_onto(values)}"
    if name == PROBE and not asks_as_table_3(values):
        return  # Table 10's question
    if name == PROBE:  # the authors choose the epoch on the test items (D17)
        on_test = "best epoch on the test items" in str(values.get("chosen"))
        how += f", probed{' (epoch chosen on the test items)' if on_test else ''}"
    model = model_of_result(values), how
    results = [ClassResult(**result) for result in values["classes"]]
    if all(result.frequency is None for result in results):
        return  # nothing to draw: no item has an answer
    known = by_class.setdefault(dataset, {})
    if _items(results) >= _items(known.get(model, [])):  # of several results of one model, the one with the most items
        known[model] = results


def _items(results: Sequence[ClassResult]) -> int:
    return sum(result.rate.total for result in results)


def _plainly_open(report: Mapping[str, Any]) -> bool:
    protocol = report["protocol"]
    if protocol.get("labels"):
        return False
    return protocol["task"] == "zero_shot" or (protocol["task"], protocol.get("prompt")) == ("open_world", "paper")
