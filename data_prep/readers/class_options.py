"""Options of sources whose records have classes: k images of each class, half of the classes, new names for classes.

    options: {split: train, shots: 16, class_part: base}

`shots: k` keeps k images of each class, those whose hash of `shots_seed` and id comes first, so that the images of
`shots: 1` are among those of `shots: 2`. `class_part: base` keeps the first half of the class list (the larger one if
the number is odd) and `new` the other, as CoOp does (Zhou et al. 2022); with `class_seed` the halves are drawn. The
source's class list is then that half. A class of too few images is an error, unless `shots_short` is `keep`.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from hashlib import sha256
from typing import Any

from configs.errors import ConfigError, DataError
from data_prep.class_names import alike_names
from data_prep.readers.selection import ranked
from data_prep.records import LazyRecords, Record, ReiterableRecords
from data_prep.sample import Drop, Sample, Source

BASE, NEW = "base", "new"
ERROR, KEEP = "error", "keep"
MAX_NAMED = 5  # classes in a message


@dataclass(frozen=True, slots=True)
class ClassOptions:
    """What a source keeps of its classes; by default everything."""

    shots: int | None = None
    shots_seed: int = 0
    shots_short: str = ERROR
    class_part: str | None = None
    class_seed: int | None = None

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> "ClassOptions":
        """Those among the `options` of a source. Raises `ConfigError` for a value that is none of its own."""
        return cls(**{name: value for name, value in options.items() if name in OPTION_NAMES})

    def __post_init__(self) -> None:
        """Raise `ConfigError` for a value outside its limits, or one without effect."""
        if self.shots is not None and self.shots < 1:
            raise ConfigError(f"shots is {self.shots}; it must be at least 1, or null for all images")
        if self.shots_short not in (ERROR, KEEP):
            raise ConfigError(f"shots_short is {self.shots_short!r}; choose error or keep")
        if self.class_part not in (None, BASE, NEW):
            raise ConfigError(f"class_part is {self.class_part!r}; give base or new, or null for all classes")
        if self.class_part is None and self.class_seed is not None:
            raise ConfigError(f"class_seed is {self.class_seed} without class_part; give class_part: base or new too")
        if self.shots is None and (self.shots_seed, self.shots_short) != (0, ERROR):
            raise ConfigError("shots_seed and shots_short have no effect without shots; give shots: 16, for example")

    def apply(self, source: Source) -> Source:
        """What these options keep of `source`, in its order, with the class list of its half.

        Raises `DataError` for a source or a record without classes, and for classes of fewer images than `shots`.
        """
        if self.shots is None and self.class_part is None:
            return source
        if not source.class_names:
            raise DataError("shots and class_part choose by class, and these records have none; leave the options out")
        kept = self.half(source.class_names)
        names = tuple(source.class_names[label] for label in kept)
        numbers = {label: number for number, label in enumerate(kept)}
        items, drops = _items(source, numbers)
        chosen = items
        notes = []
        if self.shots is not None:
            by_class: dict[int, list[_Item]] = {label: [] for label in kept}
            for item in items:
                by_class[item.label].append(item)
            unused = _unused(drops)
            notes += self._short(source.class_names, by_class, unused)
            picked = {i.index for some in by_class.values() for i in ranked(some, f"{self.shots_seed}:")[: self.shots]}
            chosen = [item for item in items if item.index in picked]
            notes += [f"none is chosen from {unused}"] if unused else []
            drops = []
        notes.insert(0, self._described(source, names, len(chosen)))
        indexes = sorted([*(item.index for item in chosen), *(index for index, _ in drops)])
        return Source(names, _restricted(source, indexes, numbers), source.ignored, (*source.notes, *notes))

    def half(self, names: Sequence[str]) -> list[int]:
        """The indexes of the classes that are kept, in order; classes of one name stay together in drawn halves.

        >>> ClassOptions(class_part="new").half(["a", "b", "c"])
        [2]
        """
        if self.class_part is None:
            return list(range(len(names)))
        if len(set(names)) < 2:
            raise DataError(f"class_part divides the classes, and there is only one, {names[0]!r}")
        if self.class_seed is None:
            base = set(range(-(-len(names) // 2)))
        else:
            drawn = sorted(set(names), key=lambda name: sha256(f"class:{self.class_seed}:{name}".encode()).digest())
            first = set(drawn[: -(-len(drawn) // 2)])
            base = {index for index, name in enumerate(names) if name in first}
        return [index for index in range(len(names)) if (index in base) == (self.class_part == BASE)]

    def _short(self, names: Sequence[str], by_class: Mapping[int, Sequence["_Item"]], unused: str) -> list[str]:
        """A note on classes with fewer images than `shots`. Raises `DataError` unless they are kept."""
        short = [f"{names[label]!r} ({len(some)})" for label, some in by_class.items() if len(some) < (self.shots or 0)]
        if not short:
            return []
        more = f" and {len(short) - MAX_NAMED:,} more" if len(short) > MAX_NAMED else ""
        text = f"{len(short):,} of {len(by_class):,} classes have fewer than {self.shots} images: "
        text += ", ".join(short[:MAX_NAMED]) + more
        if self.shots_short == ERROR:
            text += f"; {unused}" if unused else ""
            raise DataError(f"{text}; lower shots, add images, or take all that there are with shots_short: keep")
        return [f"{text}; all of them are taken (shots_short: keep)"]

    def _described(self, source: Source, names: Sequence[str], count: int) -> str:
        how = "in their order" if self.class_seed is None else f"drawn with class_seed {self.class_seed}"
        part = f"{len(names):,} of {len(source.class_names):,} classes ({self.class_part}, {how})"
        shots = f"shots {self.shots} (shots_seed {self.shots_seed})"
        parts = [part] * (self.class_part is not None) + [shots] * (self.shots is not None)
        return f"{', '.join(parts)}: {count:,} records"


def renamed(names: Sequence[str], new: Mapping[str, str]) -> tuple[str, ...]:
    """`names` with those that `new` has replaced by its values.

    >>> renamed(["cat", "dog"], {"dog": "hound"})
    ('cat', 'hound')

    Raises `ConfigError` if a key of `new` is no name, a value is no text, or two classes would have one name.
    """
    if unknown := [name for name in new if name not in names]:
        raise ConfigError(f"rename: {unknown[0]!r} is no class; the classes are {', '.join(map(repr, names[:20]))}")
    if wrong := [text for text in new.values() if not isinstance(text, str) or not text.strip()]:
        raise ConfigError(f"rename: the new name {wrong[0]!r} is not a text, or empty")
    found = tuple(new.get(name, name) for name in names)
    if new and (alike := alike_names(found) or [name for name, times in Counter(found).items() if times > 1]):
        raise ConfigError(f"rename: two classes would be called {alike[0]!r}; give each its own name")
    return found


OPTION_NAMES = tuple(spec.name for spec in fields(ClassOptions))


@dataclass(frozen=True, slots=True)
class _Item:
    """A record of a class that is kept: its number among all records, its id and its class before the choice."""

    index: int
    id: str
    label: int


def _items(source: Source, numbers: Mapping[int, int]) -> tuple[list[_Item], list[tuple[int, Drop]]]:
    """The records of the classes in `numbers`, and those that cannot be used. Raises `DataError` for one without."""
    items, drops = [], []
    for index, record in enumerate(source.records):
        if isinstance(record, Drop):
            drops.append((index, record))
        elif record.label is None:
            raise DataError(f"shots and class_part choose by class, and the record {record.id} has none")
        elif record.label in numbers:
            items.append(_Item(index, record.id, record.label))
    return items, drops


def _unused(drops: Sequence[tuple[int, Drop]]) -> str:
    """How many records cannot be used, and the first of them; empty if there are none."""
    if not drops:
        return ""
    first = drops[0][1]
    return f"records that cannot be used: {len(drops):,}, such as {first.id} ({first.reason})"


def _restricted(source: Source, indexes: Sequence[int], numbers: Mapping[int, int]) -> LazyRecords | ReiterableRecords:
    """The records at `indexes`, with their classes numbered again from 0."""
    records = source.records

    def relabelled(record: Record) -> Record:
        if isinstance(record, Sample) and record.label is not None:
            return replace(record, label=numbers[record.label])
        return record

    if isinstance(records, LazyRecords):
        make = records.make
        return LazyRecords(lambda number: relabelled(make(indexes[number])), len(indexes))
    wanted = frozenset(indexes)

    def again() -> Iterator[Record]:
        return (relabelled(record) for index, record in enumerate(records) if index in wanted)

    return ReiterableRecords(again)
