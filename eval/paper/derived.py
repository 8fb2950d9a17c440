"""One of our numbers, and those that follow from two others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from eval.paper.published import PaperNumber


@dataclass(frozen=True, slots=True)
class Result:
    """One of our numbers: fraction (or the row's unit), interval, number of items, protocol and source folder.

    `grader` names the grader whose number it is (`eval.grade`); it is empty for the protocol's own score.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int | None
    protocol: str
    run: str
    model: str = ""
    grader: str = ""


def derived(rows: Mapping[str, Sequence[Result]], known: Mapping[str, PaperNumber]) -> list[tuple[str, Result]]:
    """Numbers that the paper computes from two others: Table 8's improvement, Figure 4's ratio of two models' errors.

    Both must have the same protocol (another scoring alone changes the number), and an improvement the same model.
    """
    made = []
    for row, number in known.items():
        experiment, model, dataset = row.rsplit("/", 2)
        if number.unit == "points":
            pair = [f"table8/{key}_synonyms/{model}/{dataset}" for key in ("without", "with")]
        elif number.unit == "ratio":
            candidates = experiment.removeprefix("figure4/")
            pair = [f"table9/{candidates}/{name}/{dataset}" for name in (model, "CLIP-L")]
        else:
            continue
        firsts, seconds = (rows.get(name, ()) for name in pair)
        for first in firsts:
            second = next((other for other in seconds if _comparable(number.unit, first, other)), None)
            value = None if second is None else _combined(number.unit, first.value, second.value)
            if value is not None:
                made.append((row, Result(value, None, None, first.n, first.protocol, first.run, first.model)))
    return made


def _comparable(unit: str, first: Result, second: Result) -> bool:
    """Whether both have the same protocol name and, except for ratios of two models, the same model."""
    same_protocol = first.protocol.split(" ")[0] == second.protocol.split(" ")[0]
    return same_protocol and (unit == "ratio" or first.model == second.model)


def _combined(unit: str, first: float | None, second: float | None) -> float | None:
    if first is None or second is None:
        return None
    if unit == "points":
        return second - first
    return (1 - first) / (1 - second) if second < 1 else None
