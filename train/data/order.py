"""What an epoch is made of and in which order: a pure function of (shards, weights, seed, epoch).

It does not depend on the number of ranks or workers, so global step s has the same samples on every machine.

    mixture = Mixture(shards=((1000, 1000, 281), (500, 500)), weights=(1.0, 2.5), block=262_144)
    mixture.size                                              # 2281 + 2 x 1000 + a seeded half of 1000 = 4781
    order = EpochOrder.of(mixture, seed=0, epoch=0)
    order.step(7, global_batch=64)                            # 64 positions

A position numbers the samples of all sources in a row. An epoch permutes the shards of all sources together, lays
their samples in a row, and shuffles each block of that row: reading needs the shards of about `block` samples at a
time. Everything random is a sort by a hash of (seed, epoch, number, purpose): arithmetic on 64-bit integers that no
library version can change. Only the order of LLaVA's sampler (`train.data.llava_groups`) is drawn by torch.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import Any

import numpy as np

from train.data.entries import Strata
from train.data.llava_groups import LlavaGroups

PADDING = -1  # a position without a sample: it fills the last batch and has weight 0

SHARDS, SAMPLES, FRACTION = 1, 2, 3  # purposes: each draws its own numbers

Positions = np.ndarray[Any, np.dtype[np.int64]]
Mask = np.ndarray[Any, np.dtype[np.bool_]]
_BITS = (1 << 64) - 1


def keyed_hash(values: "np.ndarray[Any, np.dtype[np.uint64]]", *keys: int) -> "np.ndarray[Any, np.dtype[np.uint64]]":
    """64-bit hash of each value under the integer `keys` (the SplitMix64 finaliser, applied once per key)."""
    state = values.astype(np.uint64)
    with np.errstate(over="ignore"):
        for key in (*keys, 0):
            state = state + np.uint64(0x9E3779B97F4A7C15 * (2 * key + 1) & _BITS)
            state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            state = state ^ (state >> np.uint64(31))
    return state


def _numbers_hash(count: int, *keys: int) -> "np.ndarray[Any, np.dtype[np.uint64]]":
    return keyed_hash(np.arange(count, dtype=np.uint64), *keys)


@dataclass(frozen=True)
class SourceMix:
    """One source's part in an epoch: `passes` times all its `samples`, and `extra` of them once more."""

    samples: int
    passes: int
    extra: int

    @property
    def size(self) -> int:
        """Entries of the epoch."""
        return self.passes * self.samples + self.extra


@dataclass(frozen=True, eq=False)
class Mixture:
    """Which samples make up an epoch, and how often.

    Sources and shards are in the order of the config and of the manifests.
    """

    shards: tuple[tuple[int, ...], ...]
    """Samples of each shard, by source."""
    weights: tuple[float, ...]
    """Passes over each source: 2.5 is two passes and a seeded half."""
    block: int
    """Samples that are shuffled together."""
    kept: Mask | None = None
    """Of every position whether it is trained on; None: all are."""
    groups: LlavaGroups | None = None
    """For the order of LLaVA's sampler, in place of shuffled shards and blocks."""
    strata: Strata | None = None
    """Parts with a declared number of entries, in place of `weights`: of shares, and of balanced classes."""

    def bounds(self) -> list[tuple[int, int]]:
        """[first, last) position of each source."""
        ends = np.cumsum([0, *(sum(sizes) for sizes in self.shards)])
        return [(int(first), int(last)) for first, last in pairwise(ends)]

    def source_mixes(self) -> list[SourceMix]:
        """Of each source: samples that are trained on, whole passes, and how many come once more."""
        found = []
        for (first, last), weight in zip(self.bounds(), self.weights, strict=True):
            samples = last - first if self.kept is None else int(self.kept[first:last].sum())
            found.append(SourceMix(samples, int(weight), round((weight - int(weight)) * samples)))
        return found

    @property
    def size(self) -> int:
        """Entries of an epoch, the same in each."""
        return int(self._parts.entries.sum())

    def source_sizes(self) -> list[int]:
        """Entries of each source in an epoch."""
        repeats = self.expected_repeats()
        return [round(float(repeats[first:last].sum())) for first, last in self.bounds()]

    @cached_property
    def _parts(self) -> Strata:
        """The strata, or where there are none each source as one part."""
        if self.strata is not None:
            return self.strata
        sizes = [last - first for first, last in self.bounds()]
        entries = np.array([mix.size for mix in self.source_mixes()], dtype=np.int64)
        return Strata(np.repeat(np.arange(len(sizes)), sizes), entries)

    @cached_property
    def _samples(self) -> Positions:
        """Samples of each part that are trained on."""
        trained = self._parts.of_position if self.kept is None else self._parts.of_position[self.kept]
        return np.bincount(trained, minlength=len(self._parts.entries))

    def expected_repeats(self) -> "np.ndarray[Any, np.dtype[np.float64]]":
        """How often each position comes in an epoch, on average over the epochs."""
        repeats = (self._parts.entries / np.maximum(self._samples, 1))[self._parts.of_position]
        return repeats if self.kept is None else np.where(self.kept, repeats, 0.0)

    def repeats(self, seed: int, epoch: int) -> Positions:
        """How often each position comes in `epoch`: the whole passes of its part, and once more if it is chosen.

        Each epoch takes up where the one before stopped in a fixed random order, so that two epochs of weight 0.5 see
        every sample once.
        """
        part, samples = self._parts.of_position, np.maximum(self._samples, 1)
        passes, extra = self._parts.entries // samples, self._parts.entries % samples
        found = passes[part]
        if self.kept is not None:
            found[~self.kept] = 0
        candidates = np.flatnonzero(extra[part] > 0 if self.kept is None else (extra[part] > 0) & self.kept)
        if len(candidates):
            hashes = keyed_hash(candidates.astype(np.uint64), seed, FRACTION)
            ranked = candidates[np.lexsort((hashes, part[candidates]))]  # part after part, each in its random order
            of = part[ranked]
            firsts = np.concatenate([[0], np.flatnonzero(np.diff(of)) + 1])
            rank = np.arange(len(ranked)) - np.repeat(firsts, np.diff([*firsts, len(ranked)]))
            found[ranked[(rank - epoch * extra[of]) % samples[of] < extra[of]]] += 1
        return found


@dataclass(frozen=True)
class EpochOrder:
    """The positions of one epoch in the order they are trained on."""

    positions: Positions

    @classmethod
    def of(cls, mixture: Mixture, seed: int, epoch: int) -> "EpochOrder":
        """The order of epoch `epoch`; under a second for two million samples."""
        if mixture.groups is not None:
            return cls(mixture.groups.order(lambda any_epoch: _entries(mixture, seed, any_epoch), seed, epoch))
        row = _shards_in_a_row(mixture, seed, epoch)
        return cls(row[_shuffled(len(row), mixture.block, seed, epoch)])

    def step(self, step: int, global_batch: int, last_batch: str = "pad") -> list[int]:
        """Positions of the global batch of step `step` of this epoch.

        The last one is filled up with `PADDING`, or, if `last_batch` is `repeat`, with the first ones of the epoch.
        """
        first, last = step * global_batch, (step + 1) * global_batch
        chosen: list[int] = self.positions[first:last].tolist()
        if last_batch == "repeat" and chosen:
            chosen += self.positions.take(range(global_batch - len(chosen)), mode="wrap").tolist()
        return chosen + [PADDING] * (global_batch - len(chosen))


def _entries(mixture: Mixture, seed: int, epoch: int) -> Positions:
    """The positions of an epoch in the order of the sources, a position once for each pass."""
    return np.sort(_shards_in_a_row(mixture, seed, epoch))


def _shards_in_a_row(mixture: Mixture, seed: int, epoch: int) -> Positions:
    """The epoch's positions shard after shard; a shard occurs once for each pass over it."""
    repeats = mixture.repeats(seed, epoch)
    copies: list[Positions] = []  # positions of one pass over one source
    units: list[Positions] = []  # for each of them, the number of its shard among all shards of all passes
    count = 0
    for (start, last), sizes in zip(mixture.bounds(), mixture.shards, strict=True):
        shard = np.repeat(np.arange(len(sizes)), sizes)
        for number in range(int(repeats[start:last].max(initial=0))):
            within = np.flatnonzero(repeats[start:last] > number)
            copies.append(start + within)
            units.append(count + shard[within])
            count += len(sizes)
    if not copies:
        return np.empty(0, dtype=np.int64)
    row = np.concatenate(copies)
    size = np.bincount(np.concatenate(units), minlength=count)
    first = np.cumsum(size) - size
    turn = np.argsort(_numbers_hash(count, seed, epoch, SHARDS), kind="stable")
    first, size = first[turn], size[turn]
    ends = np.cumsum(size)
    ordered: Positions = row[np.arange(len(row)) + np.repeat(first - (ends - size), size)]
    return ordered


def _shuffled(count: int, block: int, seed: int, epoch: int) -> Positions:
    """0 .. count - 1, shuffled within each `block` consecutive numbers."""
    hashes = _numbers_hash(count, seed, epoch, SAMPLES)
    block = min(block, max(count, 1))
    whole = count // block * block
    starts = np.arange(0, whole, block)[:, None]
    blocks = (np.argsort(hashes[:whole].reshape(-1, block), axis=1, kind="stable") + starts).reshape(-1)
    return np.concatenate([blocks, whole + np.argsort(hashes[whole:], kind="stable")])


@dataclass(frozen=True)
class DataPosition:
    """Position of a run in its data; saved in every checkpoint.

    `step` counts optimizer steps from the start of training; `skipped` lists [first, last) ranges of data steps that
    a roll-back jumped over, so that data step = optimizer step + the skipped ones before it.
    """

    step: int = 0
    skipped: tuple[tuple[int, int], ...] = ()

    def data_step(self, step: int) -> int:
        """The step of the data order that optimizer step `step` reads."""
        for first, last in sorted(self.skipped):
            if step >= first:
                step += last - first
        return step


def data_steps(mixture: Mixture, seed: int, steps_per_epoch: int, start: int) -> Iterator[tuple[int, int, EpochOrder]]:
    """Endless (epoch, step in epoch, order) from data step `start` on; each epoch's order is made once."""
    epoch, first = divmod(start, steps_per_epoch)
    while True:
        order = _remembered_order(mixture, seed, epoch)
        for step in range(first, steps_per_epoch):
            yield epoch, step, order
        epoch, first = epoch + 1, 0


@lru_cache(maxsize=2)
def _remembered_order(mixture: Mixture, seed: int, epoch: int) -> EpochOrder:
    """The same as `EpochOrder.of`, for one process that plays several ranks."""
    return EpochOrder.of(mixture, seed, epoch)
