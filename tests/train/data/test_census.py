"""Every sample exactly once: a census of what all ranks read, worker processes and resumes included.

47 samples in batches of 24 (micro-batch 1), for several worlds, numbers of workers and shards, and every resume point.
Each combination starts `world * workers` processes, so the test that is not slow has a few combinations only.
"""

import itertools
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

from configs.batch_plan import StepCounts
from configs.load import load_config
from configs.run import RunConfig
from data_prep import build
from train.data.order import EpochOrder
from train.data.sources import SourceSet
from train.plan import plan_order
from train.tools.epoch_order import ids_of_rank

SAMPLES = 47
PER_SHARD = {1: 47, 2: 24, 3: 16, 7: 7}

CONFIG = """
name: census
data:
  {{shards: {root}/shards-{shards}, samples_per_shard: {per_shard},
   sources: {{talk: {{reader: llava, path: {raw}}}}}}}
model: {{base: none}}
train: {{sources: [talk], global_batch: 24, micro_batch: 1, shuffle_block: {block}, epochs: 2,
  last_batch: {last_batch}}}
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("census")
    talk = [{"from": "human", "value": "What?"}, {"from": "gpt", "value": "That."}]
    (root / "raw.json").write_text(json.dumps([{"id": f"talk{n}", "conversations": talk} for n in range(SAMPLES)]))
    for shards in PER_SHARD:
        build.main(["--config", str(config_file(root, shards, "drop"))])
    return root


def config_file(root: Path, shards: int, last_batch: str) -> Path:
    file = root / f"{shards}-{last_batch}.yaml"
    raw, per_shard = root / "raw.json", PER_SHARD[shards]
    file.write_text(
        CONFIG.format(
            root=root, shards=shards, per_shard=per_shard, raw=raw, last_batch=last_batch, block=2 * per_shard
        )
    )
    return file


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("last_batch", ["drop", "pad"])
@pytest.mark.parametrize("shards", PER_SHARD)
def test_what_all_ranks_read_is_the_manifest_from_every_resume_point(root, shards, last_batch):
    check(root, shards, last_batch, itertools.product((1, 2, 3, 4, 8), (0, 1, 2, 5)))


@pytest.mark.slow
@pytest.mark.parametrize("last_batch", ["drop", "pad"])
def test_worlds_of_several_sizes_read_the_manifest_with_and_without_worker_processes(root, last_batch):
    check(root, 3, last_batch, [(1, 0), (2, 0), (3, 0), (8, 0), (2, 2)])


def check(root: Path, shards: int, last_batch: str, worlds_and_workers: Iterable[tuple[int, int]]) -> None:
    """Compare what all ranks read with the manifest, for each (world, number of workers)."""
    config = load_config(RunConfig, config_file(root, shards, last_batch))[0]
    sources = SourceSet(Path(config.data.shards), config.train.sources)
    assert len(sources.sets[0].manifest.shards) == shards
    manifest = Counter(sources.record(position).id for position in range(SAMPLES))
    assert len(manifest) == SAMPLES
    length = StepCounts.of(len(sources), config.train)
    order = EpochOrder.of(plan_order(config, sources, 1).mixture, config.seed, 1).positions
    left_out = Counter(sources.record(position).id for position in order[24 * length.steps_per_epoch :])
    assert left_out.total() == (length.leftover if last_batch == "drop" else 0)
    straight: list[Counter[str]] | None = None
    for world, workers in worlds_and_workers:
        steps = plan_order(config, sources, world)
        for resumed in range(length.steps_per_epoch + 1):
            first, last = length.steps_per_epoch + resumed, 2 * length.steps_per_epoch  # epoch 1
            ranks = [list(ids_of_rank(steps, sources, rank, workers, first, last)) for rank in range(world)]
            assert {len(rank) for rank in ranks} == {last - first}, "all ranks have the same number of steps"
            read = [Counter(name for ids in step for name in ids) for step in zip(*ranks, strict=True)]
            straight = read if straight is None else straight
            assert read == straight[resumed:], "a step holds the same samples in every world"
            assert sum(straight[:resumed] + read, Counter()) + left_out == manifest
