"""A reader's records, created one by one on access, so that a worker creates only its own."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from data_prep.sample import Drop, Sample, Source

Record = Sample | Drop


@dataclass(frozen=True, slots=True)
class LazyRecords:
    """`count` records; `make(i)` creates record `i` and must return the same one each time.

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
class ReiterableRecords:
    """Records of a generator, which can be iterated only once: `make` creates a new generator for every iteration."""

    make: Callable[[], Iterable[Record]]

    def __iter__(self) -> Iterator[Record]:
        return iter(self.make())


@dataclass(slots=True)
class ShardChunks:
    """The shards of `size` records that belong to worker `part` of `parts`: numbers part, part + parts, ...

    Iterating yields (shard number, its records); afterwards `total` is the number of records of the whole source.
    Records of other workers' shards are skipped without being created, if the source allows it.
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
        while chunk := list(islice(iterator, self.size)):
            self.total += len(chunk)
            if number % self.parts == self.part:
                yield number, chunk
            number += 1


def expected_count(source: Source) -> int | None:
    """How many records the source has, where it knows; for progress only."""
    try:
        return len(source.records)  # type: ignore[arg-type]
    except TypeError:
        return None
