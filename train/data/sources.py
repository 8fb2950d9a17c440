"""Several shard sets in a row: one number, the position, identifies each sample of all of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from torch.utils.data import Dataset

from configs.data import DataConfig
from configs.training import TrainConfig
from data_prep.sample import Sample
from data_prep.shard_cache import ShardCache
from data_prep.shards import ShardSet
from data_prep.source_match import check_source_of
from data_prep.train_test_check import SourceContent
from train.data.entries import Numbers
from train.data.mixing import Tokens, mixed
from train.data.order import Mask, Mixture

E = TypeVar("E")


class SourceSet:
    """Several shard sets in a row: position 0 is the first sample of the first source."""

    def __init__(self, shards_root: Path, names: Sequence[str], cache: ShardCache | None = None):
        """Open the shard set of every source, those behind a URL through `cache`.

        Raises `DataError` that names the build command if one is missing.
        """
        self.names = tuple(names)
        self.sets = [ShardSet.open(shards_root / name, cache) for name in names]
        self.sizes = tuple(len(shards) for shards in self.sets)
        self.starts = np.cumsum((0, *self.sizes))

    @classmethod
    def of(cls, data: DataConfig, names: Sequence[str]) -> "SourceSet":
        """The sources `names` where the configuration says that shards are.

        Raises `DataError` that names the build command if one is missing or was built from other data.
        """
        sources = cls(Path(data.shards), names, ShardCache.of(data))
        for name, shards in zip(names, sources.sets, strict=True):
            check_source_of(shards.manifest, data, name)
        return sources

    def __len__(self) -> int:
        """Samples of all sources."""
        return int(self.starts[-1])

    def locate(self, position: int) -> tuple[int, int]:
        """(source number, index within it) of a position."""
        source = int(np.searchsorted(self.starts, position, side="right")) - 1
        return source, position - int(self.starts[source])

    def sample(self, position: int) -> Sample:
        """The sample at a position."""
        source, index = self.locate(position)
        return self.sets[source].sample(index)

    def record(self, position: int) -> Sample:
        """The sample at a position without its image, which is not read."""
        source, index = self.locate(position)
        return self.sets[source].record(index)

    def mixture(self, train: TrainConfig, tokens: Tokens | None = None) -> Mixture:
        """What an epoch of these sources is. `tokens` (N,) are needed where `train.shares` divides tokens.

        Raises `ConfigError` for shares or balanced classes that give a source or class no entry.
        """
        plain = Mixture(
            shards=tuple(tuple(entry.samples for entry in shards.manifest.shards) for shards in self.sets),
            weights=tuple(float(train.passes_per_epoch.get(name, 1.0)) for name in self.names),
            block=train.shuffle_block,
            kept=self.kept(train),
        )
        return mixed(plain, self.names, self.labels(), train, tokens)

    def kept(self, train: TrainConfig) -> Mask | None:
        """Of every position whether it is trained on; None: all are."""
        return self.with_image() if train.text_only == "drop" else None

    def labels(self) -> Numbers:
        """(N,) the class of every position in its source's list, -1 for none."""
        return np.concatenate([shards.labels for shards in self.sets]).astype(np.int64)

    def class_names(self) -> list[tuple[str, ...]]:
        """The class list of each source; empty where it has none."""
        return [shards.manifest.class_names for shards in self.sets]

    def with_image(self) -> Mask:
        """Of every position whether the sample has an image."""
        return np.concatenate([shards.index["extension"] > 0 for shards in self.sets])

    def contents(self) -> list[SourceContent]:
        """What is compared between training and held-out sources."""
        return [SourceContent.of(name, shards) for name, shards in zip(self.names, self.sets, strict=True)]

    def fingerprints(self) -> dict[str, str]:
        """Source name to the fingerprint of its data."""
        return {name: shards.fingerprint for name, shards in zip(self.names, self.sets, strict=True)}


class PositionSet(Dataset[E]):
    """A dataset with an item for every position of the sources, read on access."""

    def __init__(self, sources: SourceSet):
        self.sources = sources
