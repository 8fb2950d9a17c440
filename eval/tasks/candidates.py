"""The candidate classes of an item, drawn by its id alone, so that a resumed or distributed run draws the same.

Hard candidates (`similar_class`, `similar_image`) are the most similar classes of a file
(`eval.class_scores.neighbours`), matched by name; nothing is drawn but their order. Of `siblings` some are drawn.

The authors draw from one random stream over a shuffled data set, and seed it again when they resume, while items that
are done are skipped: other candidates from there on. `stream_indices` are those of a run that was never interrupted,
whichever items are evaluated here, by how many workers, and however often resumed. What a resumed run of theirs drew
depends on the item at which it was killed, which is unknown.
"""

import random
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.errors import DataError, RunError
from configs.protocol import ProtocolConfig
from configs.question import FILE_DRAWS
from data_prep.class_names import first_indices
from eval.class_scores.neighbours import Neighbours, read_neighbours
from eval.types import ItemIndex

DRAWS = {"class": "similar_class", "image": "similar_image", "siblings": "siblings"}
AUTHORS_SEED = 1234  # the default of main_results/main.py, which its scripts leave


def shown_candidates(
    config: ProtocolConfig, names: Sequence[str], label: str, item_id: str, item_index: ItemIndex | None
) -> list[int]:
    """Indices of an item's candidates, in the order in which a question lists them. Raises as `candidate_indices`."""
    if config.candidate_draw in FILE_DRAWS:
        indices = similar_indices(config, names, label, item_id)
    else:
        indices = candidate_indices(names, label, config.candidates, item_id, config.seed)
    if config.candidate_draw == "stream":
        indices = stream_indices(names, label, config.candidates, item_index, config.seed)
        return sorted(indices) if config.order == "fixed" else indices
    if config.order == "random":
        random.Random(f"{config.seed}:order:{item_id}").shuffle(indices)
    return indices


def check_candidates(config: ProtocolConfig, names: Sequence[str], label: str, item_id: str) -> None:
    """Raise `DataError` if an item of class `label` has no such candidates."""
    if config.candidate_draw in FILE_DRAWS:
        similar_indices(config, names, label, item_id)
    else:
        candidate_indices(names, label, config.candidates, item_id)


def similar_indices(config: ProtocolConfig, names: Sequence[str], label: str, item_id: str) -> list[int]:
    """Indices of the class `label` and of the classes most similar to it or to the item, in the order of the list.

    Raises `DataError` that names class or item if the file has too few similar classes among `names`.
    """
    first, _ = _known(tuple(names))
    if label not in first:
        raise DataError(f"its class {label!r} is not among the {len(names)} of protocol.classes; name the right list")
    file, wanted, found = config.candidate_file, (config.candidates or len(first)) - 1, candidate_file(config)
    by = found.by
    drawn = random.Random(f"{config.seed}:candidates:{item_id}")
    near = [name for name in found.names(item_id if by == "image" else label) if name in first and name != label]
    whose = f"its image (item {item_id}, class {label!r})" if by == "image" else f"its class {label!r}"
    what = "siblings" if by == "siblings" else "similar classes"
    if not near:
        raise DataError(
            f"{whose} has no {what} in {file}; write it for these items and classes, or choose another draw"
        )
    if len(near) < wanted:
        raise DataError(
            f"{whose} has {len(near)} {what} of protocol.classes in {file}, and protocol.candidates "
            f"{config.candidates} needs {wanted}; lower it to {len(near) + 1}, or write a file that has more"
        )
    near = drawn.sample(near, wanted) if by == "siblings" else near[:wanted]
    return sorted(first[name] for name in (label, *near))


def candidate_file(config: ProtocolConfig) -> Neighbours:
    """The file of similar classes. Raises `DataError` if it cannot be read, or holds those of the other kind."""
    found, by = read_neighbours(str(config.candidate_file)), config.candidate_draw.removeprefix("similar_")
    if found.by != by:
        raise DataError(
            f"protocol.candidate_draw is {config.candidate_draw} and {config.candidate_file} is a file by {found.by}; "
            f"set candidate_draw to {DRAWS[found.by]}, or write the file by {by}"
        )
    return found


def candidate_indices(names: Sequence[str], label: str, count: int | None, item_id: str, seed: int = 0) -> list[int]:
    """Indices of `count` classes in the order of the list, a class named `label` among them; all for None.

    Of classes that share a name only the first is a candidate. Raises `DataError` if no class is called `label`, or
    there are fewer than `count`.
    """
    first, ordered = _known(tuple(names))
    if label not in first:
        raise DataError(f"its class {label!r} is not among the {len(names)} of protocol.classes; name the right list")
    if count is None:
        return sorted(first.values())
    if count > len(first):
        raise DataError(f"protocol.candidates is {count}, but there are {len(first)} classes; lower it")
    others = [name for name in ordered if name != label]
    drawn = random.Random(f"{seed}:candidates:{item_id}").sample(others, count - 1)
    return sorted(first[name] for name in (label, *drawn))


def stream_indices(
    names: Sequence[str], label: str, count: int | None, item_index: ItemIndex | None, seed: int = 0
) -> list[int]:
    """Indices of the candidates that the authors' stream draws for an item, in the order they are shown.

    Raises `RunError` if the index is not known: answers under another candidate_draw do not store it.
    """
    if item_index is None:
        raise RunError(
            "protocol.candidate_draw is stream, and these answers do not store their items' index in the data set; "
            "set output to another folder and run again, or set it to item"
        )
    first, ordered = _known(tuple(names))
    others = [name for name in ordered if name != label]
    drawn = _stream(item_index.total, len(first), count or len(first), AUTHORS_SEED + seed)[item_index.index]
    return [first[label if other < 0 else others[other]] for other in drawn.tolist()]


@lru_cache(maxsize=4)
def _stream(items: int, classes: int, count: int, seed: int) -> NDArray[np.signedinteger[Any]]:
    """(items, count) by number in the data set: -1 for the label, else which of the other classes, sorted by name.

    What is drawn does not depend on the labels. ImageNet's 50,000 items with 100 candidates take seconds, with all
    1,000 most of a minute and 100 MB, once a process.
    """
    stream = random.Random(seed)
    order = list(range(items))
    stream.shuffle(order)
    rows = np.empty((items, count), dtype=np.min_scalar_type(-classes))
    for item in order:
        drawn = [-1, *stream.sample(range(classes - 1), count - 1)]
        stream.shuffle(drawn)
        rows[item] = drawn
    return rows


@lru_cache(maxsize=4)
def _known(names: tuple[str, ...]) -> tuple[dict[str, int], list[str]]:
    """(name to the first index that has it, the names sorted), looked up once for all items."""
    first = first_indices(names)
    return first, sorted(first)
