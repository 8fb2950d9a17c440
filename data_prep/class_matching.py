"""Classes of two sources are matched by name: the same index may mean another class in another source."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from configs.errors import DataError
from data_prep.class_names import folded_name
from data_prep.manifest import Manifest
from data_prep.shards import ShardSet

MAX_PRINTED_NAMES = 20  # names of each side in a message


@dataclass(frozen=True, slots=True)
class ClassDifference:
    """How the classes of a source's items differ from a list of known names.

    `unknown` maps the classes that the list lacks to their numbers of items; `unused` are the names of the list that no
    item has, in the list's order. `items` counts all items with a class, `classes` the classes that they have.
    """

    unknown: Mapping[str, int]
    unused: tuple[str, ...]
    items: int
    classes: int

    @classmethod
    def of(cls, counts: Mapping[str, int], known: Iterable[str]) -> "ClassDifference":
        """Of the classes in `counts` (name to number of items; those without an item are ignored).

        >>> ClassDifference.of({"cat": 3, "Dog": 2}, ["cat", "dog"]).unknown
        {'Dog': 2}
        """
        names = dict.fromkeys(known)
        present = {name: count for name, count in counts.items() if count}
        unknown = {name: count for name, count in present.items() if name not in names}
        unused = tuple(name for name in names if name not in present)
        return cls(unknown, unused, sum(present.values()), len(present))

    @property
    def respelled(self) -> list[tuple[str, str]]:
        """Pairs of an unknown class and an unused name that are one name in two spellings."""
        folded = {folded_name(name): name for name in self.unused}
        return [(name, folded[folded_name(name)]) for name in self.unknown if folded_name(name) in folded]

    def describe(self, source: str, known: str) -> str:
        """The classes that `known` lacks with their numbers of items, and those of `known` that `source` lacks."""
        counted = [f"{name!r} ({count:,})" for name, count in self.unknown.items()]
        text = (
            f"{len(self.unknown):,} of {self.classes:,} classes of {source}, {sum(self.unknown.values()):,} of "
            f"{self.items:,} items, are not in {known}: {shortened(counted)}"
        )
        if self.unused:
            text += f"; classes of {known} without an item in {source} ({len(self.unused):,}): {shortened(self.unused)}"
        if self.respelled:
            first, second = self.respelled[0]
            text += (
                f"; {len(self.respelled):,} of them differ in case, spaces, `_` or Unicode form only, such as "
                f"{first!r} and {second!r}: give both sides one spelling"
            )
        return text


def shortened(names: Sequence[str]) -> str:
    """The first `MAX_PRINTED_NAMES` names, and how many more there are."""
    more = f" and {len(names) - MAX_PRINTED_NAMES:,} more" if len(names) > MAX_PRINTED_NAMES else ""
    return ", ".join(names[:MAX_PRINTED_NAMES]) + more


def named_histogram(manifest: Manifest) -> dict[str, int]:
    """Class name to number of samples, in the order of the class list; classes of one name are added up."""
    counts = dict.fromkeys(manifest.class_names, 0)
    for name, count in zip(manifest.class_names, manifest.histogram, strict=True):
        counts[name] += count
    return counts


def class_counts(shards: ShardSet, items: Sequence[int] | None = None) -> dict[str, int]:
    """Class name to number of items, in the order of the class list; classes without an item have 0.

    From the manifest where every item has a class of its list; else the records of `items` (default: all) are read.
    """
    manifest = shards.manifest
    if sum(manifest.histogram) == len(shards):
        return named_histogram(manifest)
    counts: Counter[str] = Counter(dict.fromkeys(manifest.class_names, 0))
    for item in range(len(shards)) if items is None else items:
        label = shards.record(item).label_name
        if label:
            counts[label] += 1
    return dict(counts)


def indices_by_name(names: Sequence[str], known: Sequence[str]) -> list[int]:
    """For each of `names` the index of the class of that name in `known`, -1 where there is none.

    Equal lists match by index, also where classes share a name. Raises `DataError` for a name that several classes of
    either list have, if the lists differ.

    >>> indices_by_name(["cat", "ape"], ["ant", "cat"])
    [1, -1]
    """
    if list(names) == list(known):
        return list(range(len(known)))
    index = {name: number for number, name in enumerate(known)}
    for name, count in (Counter(names) | Counter(known)).items():
        if count > 1 and name in index and name in names:
            raise DataError(
                f"{count} classes are called {name!r} and the two class lists differ, so it is not known which class "
                "is which; build both sources with the same class list, or give each class a name that no other has"
            )
    return [index.get(name, -1) for name in names]
