"""The table of a sweep as JSON values: a row for each combination of settings, and which one is best, if that is known.

A setting is best if its mean is, and if its paired difference to every other setting over the same seeds is
significant: a t-test for each pair of settings, 5 %, p-values adjusted for all pairs (Holm). Of settings that one seed
or chance may have put in order, none is best.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import combinations
from statistics import fmean, stdev
from typing import Any

from data_prep.seed_statistics import holm, paired_seeds, t_interval
from launch.sweep_plan import Sweep, SweepRun
from launch.sweep_state import HELD_OUT, Measured, measurements, state_of

SIGNIFICANT = 0.05

Values = Mapping[int, Measured]
"""A row's measurements by seed."""


def sweep_table(sweep: Sweep) -> dict[str, Any]:
    """All that is known of the sweep's runs now."""
    rows = [[(one, measurements(one), state_of(one)) for one in runs] for runs in sweep.combinations]
    first = sweep.runs[0]
    measures = [evaluation.name for evaluation in first.evaluations] or [HELD_OUT]
    by_measure = {
        measure: [{one.seed: found[measure] for one, found, _ in row if measure in found} for row in rows]
        for measure in measures
    }
    return {
        "sweep": sweep.name,
        "seeds": sorted({one.seed for one in sweep.runs}),
        "measures": measures,
        "notes": list(sweep.notes),
        "rows": [
            {
                "settings": row[0][0].settings,
                "runs": [_run(one, found, state) for one, found, state in row],
                "results": {measure: summary(by_measure[measure][number], measure) for measure in measures},
            }
            for number, row in enumerate(rows)
        ],
        "best": {
            measure: best(by_measure[measure], [_is_diverged(row) for row in rows], measure, len(rows[0]))
            for measure in measures
        },
    }


def _run(one: SweepRun, found: Mapping[str, Measured], state: str) -> dict[str, Any]:
    values = {measure: asdict(measured) for measure, measured in found.items()}
    return {"name": one.config.name, "seed": one.seed, "state": state, "folder": str(one.run.root), "values": values}


def _is_diverged(row: Sequence[tuple[SweepRun, Mapping[str, Measured], str]]) -> bool:
    return any(state == "diverged" for _, _, state in row)


def summary(values: Values, measure: str) -> dict[str, Any]:
    """Number of seeds, mean, standard deviation and 95 % t-interval of the mean; None where there is none.

    The interval of an accuracy is cut at 0 and 1.
    """
    numbers = [measured.value for measured in values.values()]
    bounds = t_interval(numbers)
    if bounds and measure != HELD_OUT:
        bounds = max(0.0, bounds[0]), min(1.0, bounds[1])
    return {
        "n": len(numbers),
        "mean": fmean(numbers) if numbers else None,
        "deviation": stdev(numbers) if len(numbers) > 1 else None,
        "low": bounds[0] if bounds else None,
        "high": bounds[1] if bounds else None,
        "items": sorted({measured.n for measured in values.values() if measured.n is not None}),
    }


def best(rows: Sequence[Values], diverged: Sequence[bool], measure: str, seeds: int) -> dict[str, Any]:
    """`row`: the number of the best row, None if it cannot be told from the others; `why` in words; all `pairs`."""
    complete = [number for number, row in enumerate(rows) if len(row) == seeds and not diverged[number]]
    missing = sum(seeds - len(row) for row, lost in zip(rows, diverged, strict=True) if not lost)
    items = {measured.n for number in complete for measured in rows[number].values()}
    for reason, applies in (
        (f"{missing} of {len(rows) * seeds} runs have no result yet", missing > 0),
        ("there are not two settings to compare", len(complete) < 2),
        ("one seed shows no spread; give --seeds 3 or more", seeds < 2),
        ("the runs were evaluated on different numbers of items", len(items) > 1),
    ):
        if applies:
            return {"row": None, "why": f"no best setting: {reason}", "pairs": []}
    means = {number: fmean(one.value for one in rows[number].values()) for number in complete}
    leader = (min if measure == HELD_OUT else max)(complete, key=means.__getitem__)
    pairs = _pairs(rows, complete)
    rivals = [pair for pair in pairs if leader in (pair["first"], pair["second"]) and not _differs(pair)]
    count = sum(diverged)
    lost = f"; {count} setting{'s' * (count > 1)} diverged and {'are' if count > 1 else 'is'} not compared"
    lost *= bool(count)
    if rivals:
        others = [pair["second"] if pair["first"] == leader else pair["first"] for pair in rivals]
        equal = all(means[other] == means[leader] for other in others)
        relation = "the same mean as" if equal else "the best mean and cannot be told from"
        why = (
            f"no best setting: row {leader + 1} has {relation} row{'s' * (len(others) > 1)} "
            f"{', '.join(str(other + 1) for other in others)} with {seeds} seeds"
        )
        return {"row": None, "why": why + lost, "pairs": pairs}
    why = f"row {leader + 1} is best: it differs from every other over {seeds} seeds (paired t-tests, p < 0.05, Holm)"
    return {"row": leader, "why": why + lost, "pairs": pairs}


def _differs(pair: Mapping[str, Any]) -> bool:
    return pair["adjusted_p_value"] is not None and pair["adjusted_p_value"] < SIGNIFICANT


def _pairs(rows: Sequence[Values], complete: Sequence[int]) -> list[dict[str, Any]]:
    """The paired difference of every two rows over their seeds, with p-values adjusted for all of them."""
    found = []
    for first, second in combinations(complete, 2):
        order = sorted(rows[first])
        paired = paired_seeds(*([rows[number][seed].value for seed in order] for number in (first, second)))
        found.append({"first": first, "second": second, **asdict(paired)})
    tested = [pair for pair in found if pair["p_value"] is not None]
    adjusted = holm([pair["p_value"] for pair in tested])
    for pair in found:
        pair["adjusted_p_value"] = None
    for pair, value in zip(tested, adjusted, strict=True):
        pair["adjusted_p_value"] = value
    return found
