"""Which worker evaluates which items, in which batches; independent of which items have answers.

A batch is fixed by the items and the batch size alone. A rerun after a kill, or by another number of workers, forms the
same batches again, so that it gives the same answers to the last bit: sums in floating point depend on the neighbours.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

from configs.errors import ConfigError
from configs.evaluation import EvalConfig
from configs.protocol import ProtocolConfig
from configs.shard_dir import ShardDir
from data_prep.manifest import read_manifest
from data_prep.shards import ShardSet
from data_prep.source_match import check_source_of, open_shards
from eval.tasks.candidates import AUTHORS_SEED

SEED = 0


@dataclass(frozen=True, slots=True)
class Share:
    """Worker `worker` of `workers`: every `workers`-th batch. Raises `ConfigError` for an impossible pair."""

    worker: int = 0
    workers: int = 1

    def __post_init__(self) -> None:
        """Check that there is such a worker."""
        if not 0 <= self.worker < self.workers:
            raise ConfigError(
                f"--worker {self.worker} with --workers {self.workers}: --worker must be in 0..{self.workers - 1}"
            )

    @classmethod
    def of(cls, worker: int | None, workers: int) -> "Share":
        """That of job `worker`. Raises `ConfigError` if there are several jobs and this one has no number."""
        if workers > 1 and worker is None:
            raise ConfigError(f"--workers {workers} needs --worker: which of 0 to {workers - 1} is this?")
        return cls(worker or 0, workers)

    def split(self, processes: int) -> "list[Share]":
        """The shares of this worker's processes; together they have the same items."""
        if processes < 1:
            raise ConfigError(f"--processes is {processes}; give at least 1")
        return [Share(self.worker * processes + process, self.workers * processes) for process in range(processes)]


def open_source(config: EvalConfig) -> ShardSet:
    """The shard set of the test source. Raises `DataError` if it is not built, or built from other data."""
    return open_source_named(config, config.source)


def open_source_named(config: EvalConfig, name: str) -> ShardSet:
    """The shard set of the source `name` of data.sources. Raises `DataError` as `open_shards`."""
    return open_shards(config.data, name, evaluated=True)


def check_described(config: EvalConfig) -> None:
    """Raise `DataError` if shards of the test source are on this machine and were built from other data."""
    folder = Path(config.data.shards) / config.source
    if ShardDir(folder).manifest.is_file():
        check_source_of(read_manifest(folder), config.data, config.source, evaluated=True)


def items_of(config: EvalConfig, shards: ShardSet) -> list[int]:
    """Indices of the items of `shards` that `config` evaluates, in order."""
    return chosen_items(shards.index["id_hash"].tolist(), item_limit(config), config.protocol.item_draw)


def item_limit(config: EvalConfig) -> int | None:
    """The number of items to evaluate at most: `limit`, or the protocol's where class names are scored; None: all."""
    if config.limit is None and config.protocol.task == "class_likelihood":
        return config.protocol.likelihood_items
    return config.limit


def chosen_items(id_hashes: Sequence[int], limit: int | None, item_draw: str = "id") -> list[int]:
    """Indices of the items to evaluate, in order: all, or the `limit` that come first in an order drawn from their ids.

    A larger limit keeps the items of a smaller one. `id_hashes[i]` is `data_prep.shard_index.id_hash` of item i's id;
    `item_draw` is protocol.item_draw.
    """
    if limit is None or limit >= len(id_hashes):
        return list(range(len(id_hashes)))
    if item_draw == "stream":
        return [item for item, rank in enumerate(stream_ranks(len(id_hashes))) if rank < limit]
    return sorted(sorted(range(len(id_hashes)), key=lambda item: selection_key(id_hashes[item]))[:limit])


def depends_on_batch(protocol: ProtocolConfig, pads_right: bool) -> bool:
    """Whether an answer depends on the rest of its batch: padding on the right changes shorter questions' positions.

    `pads_right` is what the model's folder says.
    """
    right = protocol.padding_side == "right" or (protocol.padding_side == "processor" and pads_right)
    return right and protocol.task in ("open_world", "closed_world", "multiple_choice")


def selection_key(hashed: int) -> bytes:
    """An item's position in the order from which `limit` takes the first."""
    return sha256(f"{SEED}:{int(hashed)}".encode()).digest()


@lru_cache(maxsize=4)
def stream_ranks(items: int) -> tuple[int, ...]:
    """By index in the source: the item's index after the authors' shuffle (inference_analysis/main.py)."""
    order = list(range(items))
    random.Random(AUTHORS_SEED).shuffle(order)
    ranks = [0] * items
    for rank, item in enumerate(order):
        ranks[item] = rank
    return tuple(ranks)


def batches_of(items: Sequence[int], share: Share, batch_size: int) -> list[list[int]]:
    """The share's rows of `batch_size` items.

    >>> batches_of(range(7), Share(1, 2), 2)
    [[2, 3], [6]]
    """
    starts = range(0, len(items), batch_size)[share.worker :: share.workers]
    return [list(items[start : start + batch_size]) for start in starts]
