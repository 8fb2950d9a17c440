"""Runs the variants of an evaluation and collects the points of each item under each of them."""

from collections.abc import Mapping, Sequence
from typing import Any

from configs.errors import RunError
from configs.eval_dir import EvalDir
from configs.evaluation import EvalConfig
from data_prep.page import Page, Table
from eval.metrics.grouped import points_of
from eval.metrics.outcomes import scored_predictions
from eval.metrics.robustness import FactorOutcomes, Points, robustness_results
from eval.runner.batching import Share, items_of, open_source
from eval.runner.class_check import check_classes
from eval.runner.evaluation_record import Evaluation, with_scoring
from eval.runner.output_paths import present_answers
from eval.runner.predictions import read_records
from eval.runner.stored_records import records_of
from eval.runner.variants import Factor
from eval.tasks.registry import make_task


def plan_of(config: EvalConfig, factors: Sequence[Factor]) -> dict[str, Any]:
    """The variants with their answered items, without loading a model. Raises as `check_classes`."""
    shards = open_source(config)
    make_task(config.protocol)
    notes = check_classes(config, shards)
    number = len(items_of(config, shards))
    rows: list[dict[str, Any]] = [{"factor": "base", "setting": "", "value": "", "answered": _answered(config, number)}]
    for factor in factors:
        named = {"factor": factor.name, "setting": factor.setting}
        if factor.reason:
            rows.append({**named, "value": "", "not_varied": factor.reason})
        for variant in factor.variants:
            answered = None if variant.rescored else _answered(variant.config, number)
            rows.append({**named, "value": variant.value, "answered": answered})
    asked = sum(row.get("answered") is not None for row in rows)
    return {"name": config.name, "items": number, "evaluations": asked, "variants": rows, "notes": notes}


def plan_text(plan: Mapping[str, Any]) -> str:
    """The table of a plan."""
    rows = [[row["factor"], row["setting"], row["value"], _state(row, plan["items"])] for row in plan["variants"]]
    title = f"{plan['name']}: {plan['evaluations']} evaluations of {plan['items']:,} items"
    table = Page(title, [Table(("factor", "setting", "value", "items"), rows)])
    return "\n".join([table.markdown(), *(f"classes: {note}" for note in plan["notes"])])


def _state(row: Mapping[str, Any], items: int) -> str:
    if "not_varied" in row:
        return f"not varied: {row['not_varied']}"
    if row["answered"] is None:
        return "scored from the base's answers"
    return f"{row['answered']:,} of {items:,} answered"


def ask(config: EvalConfig, factors: Sequence[Factor], processes: int = 1) -> None:
    """Run the model on the items of base and variants that have no answer; the model is loaded once.

    A variant that the model refuses is skipped; `collect` says why.
    """
    from eval.runner.workers import run_evaluations  # loads torch, which a dry run does not need

    check_classes(config, open_source(config))
    variants = [variant.config for factor in factors for variant in factor.variants if not variant.rescored]
    run_evaluations([config, *variants], Share(), processes)


def collect(config: EvalConfig, factors: Sequence[Factor]) -> dict[str, Any]:
    """The content of robustness.json from the stored answers.

    Raises `RunError` if the base has none, or answers to other questions are in its folder.
    """
    from eval.runner.stored_answers import answers_folder  # loads torch

    folder, _ = answers_folder(config)
    base, answered, evaluation = _points(folder, config)
    if not base:
        refused = [file.read_text(encoding="utf-8").strip() for file in folder.refusals().values()]
        raise RunError([*refused, f"{folder.root} has no answered item; run the command without --report-only"][0])
    notes = _incomplete("the base", answered, evaluation)
    outcomes = []
    for factor in factors:
        values: dict[str, Points] = {factor.base_value: base}
        reasons = [factor.reason] if factor.reason else []
        for variant in factor.variants:
            where = folder if variant.rescored else answers_folder(variant.config)[0]
            found, answered, reason = _variant(where, variant.config)
            if found:
                values[variant.value] = found
                notes += _incomplete(f"{factor.name} {variant.value}", answered, evaluation)
            else:
                reasons.append(reason)
                notes.append(f"{factor.name} {variant.value} is left out: {reason}")
        if len(values) == 1:
            outcomes.append(FactorOutcomes(factor.name, factor.setting, {}, [*reasons, "it has one value"][0]))
        else:
            outcomes.append(FactorOutcomes(factor.name, factor.setting, values))
    head = {
        "name": config.name,
        "model": evaluation.model,
        "label": evaluation.label,
        "source": evaluation.source,
        "protocol": evaluation.settings | {"name": config.protocol.name, "hash": evaluation.protocol_hash},
        "notes": notes,
        "report": str(folder.report("html")),  # may be still to be written
    }
    return head | robustness_results(base, outcomes, config.protocol.task)


def _points(folder: EvalDir, config: EvalConfig) -> tuple[Points, int, Evaluation]:
    """(item id to the points of its answer by `config`, how many answers there are, the evaluation).

    Answers to images without a label have no points (protocol.labels). Raises `RunError` for other answers than
    `config` asks.
    """
    evaluation = with_scoring(folder, config)
    records = records_of(folder, evaluation)
    predictions = list(records.predictions.values())
    scored = scored_predictions(folder, predictions, config.protocol, evaluation.answer_delimiter)
    return points_of(scored), len(predictions), evaluation


def _variant(folder: EvalDir, config: EvalConfig) -> tuple[Points, int, str]:
    """(item id to its points, how many answers, "") or ({}, 0, why there is nothing)."""
    refused = [file.read_text(encoding="utf-8").strip() for file in folder.refusals().values()]
    if refused or not folder.config.is_file():
        return {}, 0, [*refused, "it was not run yet"][0]
    found, answered, _ = _points(folder, config)
    return found, answered, "" if found else "it has no answered item"


def _incomplete(name: str, answered: int, evaluation: Evaluation) -> list[str]:
    expected = evaluation.items
    if answered >= expected:
        return []
    return [f"{name} has {answered:,} of {expected:,} items; run the same command again, or see its failed items"]


def _answered(config: EvalConfig, items: int) -> int:
    """How many items have an answer."""
    folder = present_answers(config)
    done = len(read_records(folder).predictions) if folder else 0
    return min(done, items)
