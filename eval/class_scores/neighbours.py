"""Which classes a CLIP finds most alike: the file that `python -m eval.similar_classes` writes and protocols name.

    {"by": "class", "classes": ["tench", ...], "of": {"model": ..., "data": ..., "items": 5000},
     "neighbours": {"tench": [389, 391, ...], ...}}

`neighbours` maps a class (`by: class`) or an item's id (`by: image`) to indices of the other `classes`, the most
similar first. By class the similarity is the mean cosine between the images of the class and the sentence of the other
class; by image it is the cosine of that image alone. Both are in the stored scores of a zero_shot evaluation.

`by: siblings` maps a class to all classes that have a parent in common with it in a tree of names, in the list's order.

Shapes: `N` items, `C` classes.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from configs.errors import DataError
from data_prep.atomic import write_bytes
from data_prep.class_names import first_indices
from eval.class_scores.rules import Floats

BY = ("class", "image", "siblings")


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The content of the file; see the module. `of` says which evaluation it was made of."""

    by: str
    classes: tuple[str, ...]
    neighbours: Mapping[str, Sequence[int]]
    of: Mapping[str, Any]

    def names(self, key: str) -> list[str]:
        """The names of the classes most similar to class `key` or to the image of item `key`; none if unknown."""
        return [self.classes[index] for index in self.neighbours.get(key, ())]


def neighbours_by_image(
    names: Sequence[str], items: Sequence[tuple[str, str]], cosines: Floats, keep: int
) -> dict[str, list[int]]:
    """Item id to the `keep` classes with the highest cosines but its own; `items` are (id, class), `cosines` (N, C).

    Equal cosines in the order of the list; of classes that share a name the first.
    """
    first = first_indices(names)
    return {
        key: _nearest(names, first, row, own=own, keep=keep) for (key, own), row in zip(items, cosines, strict=True)
    }


def neighbours_by_class(
    names: Sequence[str], items: Sequence[tuple[str, str]], cosines: Floats, keep: int
) -> dict[str, list[int]]:
    """Class to the `keep` others with the highest mean cosine over its images; a class without an image is missing."""
    first = first_indices(names)
    members: dict[str, list[int]] = {}
    for number, (_, own) in enumerate(items):
        members.setdefault(own, []).append(number)
    return {
        name: _nearest(names, first, cosines[members[name]].mean(0), own=name, keep=keep)
        for name in first
        if name in members
    }


def _nearest(names: Sequence[str], first: Mapping[str, int], cosines: Floats, *, own: str, keep: int) -> list[int]:
    """The first indices of the `keep` names with the highest cosines but `own`."""
    chosen: dict[str, int] = {}
    for index in np.argsort(-cosines, kind="stable").tolist():
        if names[index] != own:
            chosen.setdefault(names[index], first[names[index]])
        if len(chosen) == keep:
            break
    return list(chosen.values())


def write_neighbours(file: Path, found: Neighbours) -> None:
    """Write the file: one line a class or item, so that it can be compared by `diff`."""
    head = {key: value for key, value in asdict(found).items() if key != "neighbours"}
    lines = [f"{json.dumps(key, ensure_ascii=False)}: {json.dumps(list(row))}" for key, row in found.neighbours.items()]
    text = json.dumps(head, ensure_ascii=False)[:-1] + ', "neighbours": {\n' + ",\n".join(lines) + "\n}}\n"
    write_bytes(file, text.encode())


def read_neighbours(file: str) -> Neighbours:
    """The content of the file. Raises `DataError` if it cannot be read or is no such file."""
    path = Path(file).expanduser()
    try:
        stat = path.stat()
    except OSError as error:
        raise DataError(
            f"protocol.candidate_file {file} cannot be read ({error.strerror}); write it with python -m "
            "eval.similar_classes"
        ) from error
    return _read(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=4)
def _read(path: Path, _changed: int, _size: int) -> Neighbours:
    try:
        values = json.loads(path.read_text(encoding="utf-8-sig"))
        classes = tuple(map(str, values["classes"]))
        rows = {str(key): tuple(map(int, row)) for key, row in values["neighbours"].items()}
        if values["by"] not in BY or any(not 0 <= index < len(classes) for row in rows.values() for index in row):
            raise ValueError("an index that is no class, or an unknown `by`")
        twice = next((key for key, row in rows.items() if len({classes[index] for index in row}) < len(row)), None)
        if twice is not None:
            raise ValueError(f"a class occurs twice in the row of {twice!r}")
        return Neighbours(values["by"], classes, rows, dict(values.get("of", {})))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"protocol.candidate_file {path} is no file of similar classes ({type(error).__name__}: {error}); write "
            "one with python -m eval.similar_classes"
        ) from error
