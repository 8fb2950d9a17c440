"""Class labels as files hold them: text, numbers, and the values that mean a missing label.

    "cat", " cat ", ["cat"]      class cat
    "wild_dog"                   class "wild dog", as of a class folder; a list that has the name with `_` keeps it
    3, 3.0, "3"                  with a class list: its class with index 3; else a class called "3"
    "3.0"                        with a class list: its class with index 3; else a class called "3.0"
    "n01440764"                  with a class list: the class with this key
    NaN, "nan", "", null, true, 1.5, ["a", "b"], {...}      no class: the record is dropped, its reason names the value

Names are in Unicode NFC, without spaces at their ends.
"""

import json
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property

from configs.errors import DataError
from data_prep.class_names import ClassList, alike_names, folded_name

MISSING = frozenset({"", "nan", "NaN", "NAN", "null", "NULL", "None", "<NA>", "N/A", "#N/A", "NaT"})
"""What pandas, R and spreadsheets write where there is no label."""
NUMBER = re.compile(r"-?\d+")
MAX_PRINTED_LABELS = 8  # labels in a message


def label_text(value: object) -> str:
    """The label as text. Raises `ValueError`, as `kind: detail`, for a value that is no label.

    >>> label_text(" Guinea  pig "), label_text(3.0), label_text(["cat"])
    ('Guinea pig', '3', 'cat')
    """
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str):
        value = value[0]
    if isinstance(value, bool):
        raise ValueError(f"label is true or false, no class name: {json.dumps(value)}; write the name of the class")
    if isinstance(value, list | dict):
        raise ValueError(f"label is a {type(value).__name__}: {json.dumps(value)[:60]} is not the name of one class")
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        value = int(value)
    if isinstance(value, float) and math.isfinite(value):
        raise ValueError(f"label is a fraction: {value} is neither a class name nor a class index")
    text = "" if value is None else " ".join(unicodedata.normalize("NFC", str(value)).split())
    if text in MISSING or (isinstance(value, float) and not math.isfinite(value)):
        raise ValueError(f"no label: its value is {'null' if value is None else repr(value)}")
    return text


def _whole(text: str) -> str:
    """A whole number written as a fraction, "3.0", as tables with missing numbers have it: "3"; else the text."""
    return re.sub(r"^(-?\d+)\.0+$", r"\1", text)


class LabelIndex:
    """Looks up labels in a class list."""

    def __init__(self, classes: ClassList):
        self.classes = classes

    @cached_property
    def _by_name(self) -> Mapping[str, list[int]]:
        found: dict[str, list[int]] = {}
        for index, name in enumerate(self.classes.names):
            found.setdefault(name, []).append(index)
        return found

    @cached_property
    def _by_folded(self) -> Mapping[str, str]:
        return {folded_name(name): name for name in self.classes.names}

    @cached_property
    def _names_are_numbers(self) -> bool:
        """Whether a class is called by a number, so that a number is no index."""
        return any(map(NUMBER.fullmatch, self.classes.names))

    def known_as(self, label: object) -> Sequence[int]:
        """The classes that a label may mean: by name, by key, or by index. Raises `ValueError` if there is none."""
        text = label_text(label)
        for name in (text, text.replace("_", " ")):
            if name in self._by_name:
                return self._by_name[name]
        if text in self.classes.by_key:
            return [self.classes.by_key[text]]
        text = _whole(text)
        if NUMBER.fullmatch(text) and not self._names_are_numbers:
            if not 0 <= int(text) < len(self.classes.names):
                raise ValueError(
                    f"class index {text} is not below {len(self.classes.names)}: indexes count from 0 in the order of "
                    "the class list"
                )
            return [int(text)]
        near = self._by_folded.get(folded_name(text))
        hint = f"; the list has {near!r}: give both one spelling" if near else ""
        raise ValueError(f"class {text[:60]!r} is not in the class list{hint}: it is no name, key or index of it")

    def of(self, label: object, index: object = None) -> int:
        """The class of a label; `index` says which, where several classes share the name. Raises `ValueError`."""
        known = self.known_as(label)
        if index is None:
            if len(known) != 1:
                raise ValueError(f"the name {label!r} occurs {len(known)} times among the classes: an index is needed")
            return known[0]
        text = label_text(index)
        if text not in map(str, known):
            raise ValueError(f"class {text} is not {label!r}: the index and the name of the class disagree")
        return int(text)


class StatedLabels(LabelIndex):
    """Class numbers of a file whose metadata names them: a whole number is an index, even if names are numbers."""

    def of(self, label: object, index: object = None) -> int:
        """The class of a label. Raises `ValueError` for one that is no class."""
        if isinstance(label, list) and len(label) == 1:
            label = label[0]
        if not isinstance(label, int) or isinstance(label, bool):
            return super().of(label, index)
        if label < 0:
            raise ValueError(f"no label: {label} means an unknown class")
        if label >= len(self.classes.names):
            raise ValueError(f"class index {label} is not below {len(self.classes.names)}, the classes of the metadata")
        return label


def stated_classes(stated: Iterable[str], classes: ClassList | None, where: str) -> ClassList:
    """The names in a file's metadata, or `classes` if its names are the same. Raises `DataError` if they differ."""
    names = tuple(unicodedata.normalize("NFC", name) for name in stated)
    if classes is None:
        return ClassList(names)
    if classes.names == names:
        return classes
    raise DataError(
        f"{where} names {len(names)} classes in its metadata ({', '.join(names[:3])}, ...) and class_names has"
        f" {len(classes.names)} ({', '.join(classes.names[:3])}, ...), so its numbers may mean other classes; leave"
        " class_names out, or give a list of the same names in the same order"
    )


def names_of_labels(labels: Iterable[object], where: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(class names in sorted order, numbers by value; sentences about them for the person who builds).

    Values that are no label are left out. Raises `DataError` for names that differ in case, spaces, `_` or Unicode form
    only, with the number of records of each.
    """
    counts: Counter[str] = Counter()
    for label in labels:
        try:
            counts[label_text(label)] += 1
        except ValueError:
            continue
    if alike := alike_names(counts):
        shown = ", ".join(f"{name!r} ({counts[name]:,})" for name in alike[:MAX_PRINTED_LABELS])
        raise DataError(
            f"{where}: the labels {shown} differ in case, spaces, `_` or Unicode form only; are they one class? Give "
            "each class one spelling"
        )
    numbers = sorted((name for name in counts if NUMBER.fullmatch(_whole(name))), key=lambda name: int(_whole(name)))
    notes = []
    if numbers and len(numbers) == len(counts):
        notes.append(
            f"the labels are numbers, which become the class names ({', '.join(numbers[:3])}, ...); "
            "give class_names, a list, to ask for names"
        )
    elif numbers:
        notes.append(f"{len(numbers):,} of {len(counts):,} class names are numbers ({', '.join(numbers[:3])})")
    numbered = len(numbers) == len(counts)
    names = sorted(counts, key=lambda name: (int(_whole(name)) if numbered else 0, name))
    return tuple(name.replace("_", " ") for name in names), tuple(notes)


def refuse_counting_from_one(labels: Iterable[object], classes: ClassList, where: str) -> None:
    """Raise `DataError` for indexes from 1 to the number of classes, which would shift every class by one."""
    numbers, names = set(), frozenset(classes.names)
    for label in labels:
        try:
            text = _whole(label_text(label))
        except ValueError:
            continue
        keyed = classes.by_key.get(text)
        if not NUMBER.fullmatch(text) or text in names or (keyed is not None and keyed != int(text)):
            return
        numbers.add(int(text))
    if numbers and min(numbers) >= 1 and max(numbers) == len(classes.names):
        raise DataError(
            f"{where}: the labels are numbers from {min(numbers)} to {max(numbers)} and the list has "
            f"{len(classes.names)} classes; class indexes count from 0: subtract 1 from the labels, or "
            "write the names of the classes"
        )
