"""Which classes an item is to choose from: drawn by its id alone, so a resumed or split run draws the same.

(The authors draw from one running stream and skip what is done after a kill: other candidates from there on.)
"""

import random
from collections.abc import Sequence

from configs.errors import DataError

SEED = 0


def candidate_indices(names: Sequence[str], label: str, count: int | None, item_id: str) -> list[int]:
    """Indices of `count` classes in the order of the list, a class named `label` among them; all for None.

    Of classes that share a name only the first is a candidate. Raises `DataError` if no class is called `label`, or
    there are fewer than `count`.
    """
    first = {name: index for index, name in reversed(list(enumerate(names)))}
    if label not in first:
        raise DataError(f"its class {label!r} is not among the {len(names)} of protocol.classes; name the right list")
    if count is None:
        return sorted(first.values())
    if count > len(first):
        raise DataError(f"protocol.candidates is {count}, but there are {len(first)} classes; lower it")
    others = sorted(name for name in first if name != label)
    drawn = random.Random(f"{SEED}:candidates:{item_id}").sample(others, count - 1)
    return sorted(first[name] for name in (label, *drawn))


def shown_names(names: Sequence[str], indices: Sequence[int], order: str, item_id: str) -> list[str]:
    """The candidates' names as a question lists them: in the list's order (`fixed`) or drawn by the item's id."""
    shown = [names[index] for index in indices]
    if order == "random":
        random.Random(f"{SEED}:order:{item_id}").shuffle(shown)
    return shown
