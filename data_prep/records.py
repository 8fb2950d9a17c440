"""A reader's records, made one by one when asked for, so that a worker pays only for those it owns."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from data_prep.sample import Drop, Sample, Source

Record = Sample | Drop


@dataclass(frozen=True, slots=True)
class LazyRecords:
    """`count` records; `make(i)` makes record `i` and must give the same one each time.

    >>> records = LazyRecords(lambda i: Drop(str(i), "example: dropped"), 3)
    >>> [drop.id for drop in records[1:]]
    ['1', '2']
    """

    make: Callable[[int], Record]
    count: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, where: slice) -> list[Record]:
        return [self.make(index) for index in range(*where.indices(self.count))]

    def __iter__(self) -> Iterator[Record]:
        return (self.make(index) for index in range(self.count))


@dataclass(frozen=True, slots=True)
class AgainRecords:
    """Records of a generator, which ends when it was read once: `make` makes it anew for every reading."""

    make: Callable[[], Iterable[Record]]

    def __iter__(self) -> Iterator[Record]:
        return iter(self.make())


@dataclass(slots=True)
class Runs:
    """The runs of `size` records that are worker `part`'s among `parts` workers: numbers part, part + parts, ...

    Iterating yields (number of the run, its records); afterwards `total` is the number of records of the whole
    source. Runs of other workers are skipped without being made, if the source's records allow it.
    """

    source: Source
    size: int
    part: int = 0
    parts: int = 1
    total: int = 0

    def __iter__(self) -> Iterator[tuple[int, list[Record]]]:
        records = self.source.records
        if isinstance(records, LazyRecords):
            self.total = len(records)
            for number in range(self.part, -(-self.total // self.size), self.parts):
                yield number, records[number * self.size : (number + 1) * self.size]
            return
        iterator, number, self.total = iter(records), 0, 0
        while run := list(islice(iterator, self.size)):
            self.total += len(run)
            if number % self.parts == self.part:
                yield number, run
            number += 1


def expected_count(source: Source) -> int | None:
    """How many records the source has, where it knows; for progress only."""
    try:
        return len(source.records)  # type: ignore[arg-type]
    except TypeError:
        return None
