"""Label sets: the classes that count as right for each image, from a file, in place of its source's one label.

    [[], [970, 795], [230, 231], ...]                  ImageNet-ReaL's real.json (Beyer et al. 2020, arXiv 2006.07159):
                                                       a list for each validation image, in the order of their numbers
    {"n01440764/ILSVRC2012_val_00000293": ["tench"]}   item id to labels; an empty list: no label fits the image
    {"id": "cat/7", "labels": ["cat", "dog"]}          the same as JSON lines, `label` for a single one

A label is an index into the class list, a class name or a key of the list, such as a WordNet id. A single label may
be written without a list. An id may lack the folder and the ending of the image's file.
"""

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from configs.errors import DataError
from data_prep.class_names import ClassList, composed

VALIDATION_NUMBER = re.compile(r"ILSVRC2012_val_(\d{8})(?!\d)")
VALIDATION_IMAGES = 50_000
IMAGE_ENDING = re.compile(r"\.(?:jpe?g|png|webp|bmp|gif|tiff?)$", re.IGNORECASE)
SHOWN = 3  # ids or names in a message
Labels = tuple[str, ...]


@dataclass(frozen=True)
class LabelSets:
    """The class names that count as right, by item id (`by_id`) or by the number of an ImageNet validation image from 1
    on (`by_number`); an empty tuple says that no label fits the image. `path` is the file.
    """

    path: Path
    by_id: Mapping[str, Labels]
    by_number: Sequence[Labels] = ()

    @cached_property
    def _by_name(self) -> Mapping[str, list[str]]:
        """File name without folder and ending to the ids of the file that have it."""
        found: dict[str, list[str]] = {}
        for key in self.by_id:
            found.setdefault(image_name(key), []).append(key)
        return found

    def of(self, item: str) -> Labels | None:
        """The labels of an item; None if the file has none of this id."""
        if self.by_number:
            number = VALIDATION_NUMBER.search(item)
            index = int(number[1]) if number else 0
            return self.by_number[index - 1] if 0 < index <= len(self.by_number) else None
        key = self._key(item)
        return None if key is None else self.by_id[key]

    def missing(self, items: Iterable[str]) -> tuple[str, ...]:
        """The items that the file does not have. Raises `DataError` if one id of the file fits several items."""
        items = tuple(dict.fromkeys(items))
        if not self.by_number:
            keys = Counter(key for item in items if (key := self._key(item)) is not None)
            for key, times in keys.items():
                if times > 1:
                    fits = [item for item in items if self._key(item) == key][:SHOWN]
                    raise DataError(
                        f"{self.path}: the id {key!r} fits {times:,} items ({', '.join(fits)}); write the ids with "
                        "their folder"
                    )
        return tuple(item for item in items if self.of(item) is None)

    def _key(self, item: str) -> str | None:
        """The id in the file that means `item`; None if there is none, or several fit."""
        item = unicodedata.normalize("NFC", item)
        if item in self.by_id:
            return item
        keys = [key for key in self._by_name.get(image_name(item), ()) if _fits(key, item)]
        return keys[0] if len(keys) == 1 else None


def image_name(item: str) -> str:
    """An item's id without folder and without the ending of an image file.

    >>> image_name("n01440764/ILSVRC2012_val_00000293.JPEG")
    'ILSVRC2012_val_00000293'
    """
    return IMAGE_ENDING.sub("", PurePosixPath(item).name)


def _fits(key: str, item: str) -> bool:
    """Whether `key` is the id `item` but for the ending, or for the folder, which one of the two lacks."""
    first, second = IMAGE_ENDING.sub("", key), IMAGE_ENDING.sub("", item)
    return first == second or first.endswith(f"/{second}") or second.endswith(f"/{first}")


def load_label_sets(file: str, classes: ClassList | None) -> LabelSets:
    """Read the label sets in `file`; indices and keys are those of `classes`.

    Without `classes` labels must be names. Raises `DataError` for a missing file, another form, or a label that the
    class list lacks.
    """
    path = Path(file).expanduser()
    if not path.is_file():
        raise DataError(f"no label sets {file!r}: there is no such file; set protocol.labels to a JSON file")
    try:
        values = _read(path)
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not a text in UTF-8 ({error.reason}); save it as one") from error
    except ValueError as error:
        raise DataError(f"{path} holds no label sets: {error}; see data_prep/label_sets.py for the forms") from error
    names = _Names(path, classes)
    if isinstance(values, dict):
        return LabelSets(path, {str(key): names.all_of(key, value) for key, value in values.items()})
    if len(values) > VALIDATION_IMAGES:
        raise DataError(
            f"{path} is a list of {len(values):,} label sets, and ImageNet has {VALIDATION_IMAGES:,} validation "
            "images; write the labels of other images as {item id: [labels]}"
        )
    return LabelSets(path, {}, [names.all_of(number, value) for number, value in enumerate(values, start=1)])


def _read(path: Path) -> dict[str, Any] | list[Any]:
    """The content of the file: a list of ImageNet's validation images, or item id to labels."""
    text = path.read_text(encoding="utf-8-sig")
    try:
        values = composed(json.loads(text, object_pairs_hook=_unique))
    except json.JSONDecodeError:
        lines = [line for line in text.splitlines() if line.strip()]
        if len(lines) < 2 or not lines[0].lstrip().startswith("{"):
            raise
        return _of_lines([composed(json.loads(line)) for line in lines])
    if isinstance(values, dict) and "id" in values and ("labels" in values or "label" in values):
        return _of_lines([values])
    if isinstance(values, list) and values and all(isinstance(value, dict) for value in values):
        return _of_lines(values)
    if not isinstance(values, dict | list) or not values:
        raise ValueError(f"it is {'empty' if not values else 'a single value'}, not a list or an object")
    return values


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of `pairs` in Unicode NFC. Raises `ValueError` for a key that occurs twice."""
    pairs = [(unicodedata.normalize("NFC", key), composed(value)) for key, value in pairs]
    if len({key for key, _ in pairs}) < len(pairs):
        twice = next(key for key, times in Counter(key for key, _ in pairs).items() if times > 1)
        raise ValueError(f"the id {twice!r} occurs twice")
    return dict(pairs)


def _of_lines(lines: Sequence[Any]) -> dict[str, Any]:
    pairs = []
    for number, line in enumerate(lines, start=1):
        if not isinstance(line, dict) or "id" not in line or not {"labels", "label"} & line.keys():
            raise ValueError(f'entry {number} is {str(line)[:60]!r}, not {{"id": ..., "labels": [...]}}')
        pairs.append((str(line["id"]), line["labels"] if "labels" in line else line["label"]))
    return _unique(pairs)


class _Names:
    """Labels as class names."""

    def __init__(self, path: Path, classes: ClassList | None):
        self.path, self.classes = path, classes
        self.known = dict.fromkeys(classes.names if classes else ())

    def all_of(self, item: object, value: Any) -> Labels:
        """The names of the labels `value` of `item`, each once; null is no label."""
        values = value if isinstance(value, list) else [] if value is None else [value]
        return tuple(dict.fromkeys(self._name(item, label) for label in values))

    def _name(self, item: object, label: Any) -> str:
        where = f"{self.path}, item {item}" if isinstance(item, str) else f"{self.path}, validation image {item}"
        if isinstance(label, str) and label.strip():
            return self._of_text(where, label)
        if not isinstance(label, int) or isinstance(label, bool):
            raise DataError(f"{where}: the label {label!r} is neither a class name nor a whole number")
        if self.classes is None:
            raise DataError(
                f"{where}: the label {label} is a number and no class list says which class it is; set protocol.classes"
            )
        if not 0 <= label < len(self.classes.names):
            raise DataError(
                f"{where}: the label {label} is not an index of the class list, which has {len(self.classes.names):,} "
                "classes counted from 0"
            )
        return self.classes.names[label]

    def _of_text(self, where: str, label: str) -> str:
        if self.classes is None or label in self.known:
            return label
        if label in self.classes.by_key:
            return self.classes.names[self.classes.by_key[label]]
        raise DataError(
            f"{where}: the label {label!r} is neither a name nor a key of the class list; names must agree in case and "
            "spaces too"
        )
