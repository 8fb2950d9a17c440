"""The plan and its outcome as text: one line per row."""

from collections.abc import Mapping, Sequence
from typing import Any

from data_prep.class_names import load_class_list
from eval.paper.execute import Outcome
from eval.paper.experiments import NOT_OURS
from eval.paper.plan import Planned, answered


def plan_table(planned: Sequence[Planned]) -> str:
    """Rows, questions, unanswered questions, and which rows need no forward because answers or scores are stored."""
    width = _width([row.dataset for row in planned])
    lines = [f"{'data set':<{width}} {'row':<15} {'of the paper':<26} {'questions':>9} {'to ask':>8}  how"]
    forwards = separate = 0
    for row in planned:
        left = row.items - answered(row) if row.runs_model else 0
        forwards += left
        separate += _separately(row)
        questions = f"{row.items:,}" if row.runs_model else ""
        open_questions = f"{left:,}" if row.runs_model else ""
        counts = f"{questions:>9} {open_questions:>8}"
        lines.append(f"{row.dataset:<{width}} {row.row.key:<15} {row.row.tables:<26} {counts}  {_how(row)}")
    others = "; ".join(f"{name} ({why})" for name, why in NOT_OURS.items())
    lines.append(f"of the paper's other numbers, no row is an evaluation of this model: {others}")
    lines.append(
        f"forward passes to run (without probing): {forwards:,}; without sharing (every row run separately, one "
        f"forward pass per class name): {separate:,} forward passes"
    )
    return "\n".join(lines)


def _width(datasets: Sequence[str]) -> int:
    """Columns of the data sets' names."""
    return max([len(name) for name in datasets] + [16])


def _separately(row: Planned) -> int:
    """Forwards without sharing: class names are scored one by one, and rescored rows run the model again."""
    if row.reason is not None or row.row.kind in ("included", "probe", "linear"):
        return 0
    if row.row.settings.get("task") != "class_likelihood" and row.row.kind != "guidance":
        return row.items
    count = row.row.settings.get("candidates") or len(load_class_list(row.config.protocol.classes or "").names)
    return row.items * int(str(count))


def _how(row: Planned) -> str:
    if row.reason is not None:
        return f"not run: {row.reason}"
    if row.row.kind in ("probe", "linear"):
        return f"one pass over {row.config.probe_source} and {row.config.source}, all heads together"
    if row.row.answers is not None:
        return f"from the answers of {row.row.answers}, no forward"
    if row.row.settings.get("task") == "class_likelihood":
        if row.config.protocol.class_token_ids != "in_context":
            ids = row.config.protocol.class_token_ids
            return f"one tree of names per image; class_token_ids {ids}: BLIP, one forward pass a name"
        return "one prompt and one tree of all names per image"
    return f"answers of up to {row.config.protocol.max_new_tokens} tokens"


def plan_values(planned: Sequence[Planned]) -> list[dict[str, Any]]:
    """The rows of the plan for `--json`: `questions` and `to_ask` are null where no question is asked."""
    return [
        {
            "dataset": row.dataset,
            "row": row.row.key,
            "tables": row.row.tables,
            "questions": row.items if row.runs_model else None,
            "to_ask": row.items - answered(row) if row.runs_model else None,
            "reason": row.reason,
            "how": _how(row),
        }
        for row in planned
    ]


def outcome_table(outcomes: Sequence[Outcome]) -> str:
    """Each row's accuracy with its interval, or the reason why there is none."""
    width = _width([outcome.dataset for outcome in outcomes])
    lines = [
        f"{'data set':<{width}} {'row':<15} {'accuracy':>9}  {'95 % interval':<15} {'n':>7}  {'protocol':<21}  note"
    ]
    lines += [
        f"{o.dataset:<{width}} {o.row:<15} {_numbers(o.accuracy)}  {o.protocol or '':<21}  {_note(o)}" for o in outcomes
    ]
    waiting = sum(outcome.waits for outcome in outcomes)
    found = sum(outcome.reason is None for outcome in outcomes) - waiting
    last = f"{found} of {len(outcomes)} rows have a result" + (f", {waiting} not graded yet" if waiting else "")
    return "\n".join([*lines, last])


def _numbers(rate: Mapping[str, Any] | None) -> str:
    if rate is None:
        return f"{'':>9}  {'':<15} {'':>7}"
    interval = f"{100 * rate['low']:.1f} to {100 * rate['high']:.1f}"
    return f"{100 * rate['value']:>7.1f} %  {interval:<15} {rate['n']:>7,}"


def _note(outcome: Outcome) -> str:
    return outcome.note if outcome.reason is None else f"not run: {outcome.reason}"
