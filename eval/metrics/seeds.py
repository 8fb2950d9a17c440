"""Mean and spread of a number over the training seeds of one recipe. Pure functions."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, stdev
from typing import Any

from eval.metrics.accuracy import ClassResult

SEED_MARK = "@"  # mix@1 is the run of the recipe "mix" with training seed 1


@dataclass(frozen=True, slots=True)
class Spread:
    """`mean` and sample standard deviation (None of a single value) of `values`, one of each seed."""

    mean: float
    deviation: float | None
    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Iterable[float | None]) -> "Spread | None":
        """None where a seed has no value or there is no seed.

        >>> Spread.of([0.25, 0.5, 0.75])
        Spread(mean=0.5, deviation=0.25, values=(0.25, 0.5, 0.75))
        """
        given = tuple(values)
        known = tuple(value for value in given if value is not None)
        if not known or len(known) < len(given):
            return None
        return cls(fmean(known), stdev(known) if len(known) > 1 else None, known)

    def to_json(self) -> dict[str, Any]:
        """The three fields by name."""
        return asdict(self)


def recipe_of(name: str) -> str:
    """The recipe of a run's name.

    >>> recipe_of("mix@1"), recipe_of("base")
    ('mix', 'base')
    """
    return name.partition(SEED_MARK)[0]


def seeds_by_recipe(names: Iterable[str]) -> dict[str, list[str]]:
    """Recipe to the names of its runs, in order.

    >>> seeds_by_recipe(["base", "mix@1", "mix@2"])
    {'base': ['base'], 'mix': ['mix@1', 'mix@2']}
    """
    recipes: dict[str, list[str]] = {}
    for name in names:
        recipes.setdefault(recipe_of(name), []).append(name)
    return recipes


def display_name(name: str) -> str:
    """A run's name as tables print it.

    >>> display_name("mix@1")
    'mix, seed 1'
    """
    return name.replace(SEED_MARK, ", seed ", 1)


def pooled_classes(runs: Sequence[Sequence[ClassResult]]) -> list[ClassResult]:
    """The class results of several runs, counts added up class by class.

    Classes are matched by name, not by their index in a run's data; of several classes with one name, the first of a
    run is matched with the first of the others, and so on.
    """
    grouped: dict[tuple[str, int], list[ClassResult]] = {}
    for classes in runs:
        times: Counter[str] = Counter()
        for result in classes:
            grouped.setdefault((result.name, times[result.name]), []).append(result)
            times[result.name] += 1
    return [
        ClassResult(
            results[0].label,
            name,
            sum(result.correct for result in results),
            sum(result.wrong for result in results),
            sum(result.no_answer for result in results),
            results[0].frequency,
        )
        for (name, _), results in grouped.items()
    ]
