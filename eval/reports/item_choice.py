"""Which items a report shows one by one: some of each outcome, of all classes, in an order drawn from the ids."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from eval.runner.batching import selection_key
from eval.runner.predictions import Records, hash_of
from eval.types import FailedItem, Prediction, Score

MOST = 200  # items of a page
SHARES = {"wrong": 80, "no answer": 40, "failed": 20, "right": 60}
"""Outcome to how many of its items are shown if all outcomes have enough; what one lacks goes to the next ones."""
OUTCOMES = {True: "right", False: "wrong", None: "no answer"}


@dataclass(frozen=True, slots=True)
class ShownItem:
    """An item with its outcome, a key of `SHARES`; a failed one has neither prediction nor score."""

    outcome: str
    id: str
    prediction: Prediction | None = None
    score: Score | None = None
    failure: FailedItem | None = None

    @property
    def class_name(self) -> str:
        """The class that the item counts for; empty if it has none or is not known."""
        return (self.prediction.label_name if self.prediction else None) or ""


def chosen_items(scored: Sequence[tuple[Prediction, Score]], records: Records) -> list[ShownItem]:
    """At most `MOST` items, the outcomes in the order of `SHARES`."""
    found: dict[str, list[ShownItem]] = {outcome: [] for outcome in SHARES}
    for prediction, score in scored:
        outcome = OUTCOMES[score.value]
        found[outcome].append(ShownItem(outcome, prediction.id, prediction, score))
    found["failed"] = [ShownItem("failed", name, failure=failure) for name, failure in records.failures.items()]
    numbers = shares({outcome: len(items) for outcome, items in found.items()})
    return [item for outcome, items in found.items() for item in _spread(items)[: numbers[outcome]]]


def shares(available: Mapping[str, int]) -> dict[str, int]:
    """How many items of each outcome are shown.

    >>> shares({"wrong": 10, "no answer": 0, "failed": 0, "right": 5000})
    {'wrong': 10, 'no answer': 0, 'failed': 0, 'right': 190}
    """
    numbers = {outcome: min(available[outcome], share) for outcome, share in SHARES.items()}
    for outcome in numbers:
        numbers[outcome] += min(available[outcome] - numbers[outcome], MOST - sum(numbers.values()))
    return numbers


def _spread(items: Sequence[ShownItem]) -> list[ShownItem]:
    """First one item of each class, then a second one, and so on."""
    ordered = sorted(items, key=lambda item: selection_key(hash_of(item.id)))
    rank: dict[str, int] = {}
    keyed = []
    for position, item in enumerate(ordered):
        rank[item.class_name] = rank.get(item.class_name, 0) + 1
        keyed.append((rank[item.class_name], position, item))
    return [item for _, _, item in sorted(keyed, key=lambda entry: entry[:2])]
