"""Which items are asked, by whom, together with which."""

import gzip
import json
import random
from itertools import pairwise
from pathlib import Path

import pytest

from configs.errors import ConfigError
from configs.eval_dir import EvalDir
from configs.evaluation import EvalConfig
from configs.load import load_config
from data_prep.shard_index import id_hash
from eval.run import main
from eval.runner.batching import Share, batches_of, chosen_items, item_limit, open_source
from eval.runner.predictions import read_records, select_records
from eval.tasks.presets import preset_overrides

HASHES = [id_hash(f"item {number}") for number in range(100)]


@pytest.mark.parametrize("workers", [1, 2, 3, 7])
def test_workers_divide_the_items_without_rest_or_overlap(workers):
    items = chosen_items(HASHES, 50)
    asked = [item for w in range(workers) for batch in batches_of(items, Share(w, workers), 4) for item in batch]
    assert sorted(asked) == items


@pytest.mark.parametrize("workers", [2, 3, 7])
def test_batches_are_the_same_however_many_workers_share_them(workers):
    items = chosen_items(HASHES, 50)
    shared = [batch for w in range(workers) for batch in batches_of(items, Share(w, workers), 4)]
    assert sorted(shared) == batches_of(items, Share(), 4)


def test_the_processes_of_all_workers_divide_the_items_too():
    shares = [part for worker in range(3) for part in Share(worker, 3).split(2)]
    assert sorted(share.worker for share in shares) == list(range(6))
    assert {share.workers for share in shares} == {6}


def test_a_limit_is_drawn_from_the_ids_and_not_from_the_order():
    chosen = {HASHES[item] for item in chosen_items(HASHES, 10)}
    backwards = HASHES[::-1]
    assert {backwards[item] for item in chosen_items(backwards, 10)} == chosen
    assert chosen != set(HASHES[:10])


def test_a_larger_limit_keeps_the_items_of_a_smaller_one():
    chosen = [set(chosen_items(HASHES, limit)) for limit in range(1, 101)]
    assert all(small < large for small, large in pairwise(chosen))
    assert chosen_items(HASHES, None) == chosen_items(HASHES, 1000) == list(range(100))


@pytest.mark.parametrize(("worker", "workers"), [(1, 1), (-1, 2), (0, 0)])
def test_an_impossible_worker_is_refused(worker, workers):
    with pytest.raises(ConfigError, match=f"--worker {worker}"):
        Share(worker, workers)


RELEASED = Path(__file__).resolve().parents[4] / "shared" / "data" / "vlmclassifier"


def authors_items(items: list[str], count: int) -> set[str]:
    """inference_analysis/main.py: the first of the shuffled data."""
    shuffled = list(items)
    random.seed(1234)
    random.shuffle(shuffled)
    return set(shuffled[:count])


@pytest.mark.parametrize(("items", "count"), [(7, 3), (100, 10), (100, 100), (5, 9)])
def test_the_stream_chooses_the_items_of_the_authors_shuffle(items, count):
    names = [f"image {number}" for number in range(items)]
    chosen = chosen_items(HASHES[:items], count, "stream")
    assert {names[item] for item in chosen} == authors_items(names, count)
    assert chosen == sorted(chosen)


@pytest.mark.parametrize(("name", "count"), [("flowers", 6149), ("cars", 8041), ("caltech", 4331)])
def test_the_thousand_scored_items_are_those_of_the_released_lists(name, count):
    file = RELEASED / f"{name}.jsonl.gz"
    if not file.is_file():
        pytest.skip("needs the authors' lists")
    rows = [json.loads(line) for line in gzip.decompress(file.read_bytes()).decode().splitlines()]
    images = [row["image"] for row in rows if row["split"] == "test"]
    assert len(images) == count
    chosen = chosen_items(range(count), 1000, "stream")
    assert {images[item] for item in chosen} == authors_items(images, 1000)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("protocol", "task", "limit", "expected"),
    [
        ("official", "class_likelihood", None, 1000),
        ("official", "class_likelihood", 7, 7),
        ("official", "open_world", None, None),
        ("paper", "class_likelihood", None, None),
    ],
)
def test_the_authors_score_the_names_of_a_thousand_items(write_config, protocol, task, limit, expected):
    settings = [f"protocol.task={task}", "protocol.classes=imagenet", f"limit={limit or 'null'}"]
    config, _ = load_config(EvalConfig, write_config(), [*preset_overrides(protocol), *settings])
    assert item_limit(config) == expected


@pytest.mark.slow
def test_a_larger_limit_of_the_stream_continues_and_a_smaller_one_reports_the_first(write_config, tmp_path, counted):
    def answered(limit: int) -> set[str]:
        main(["--config", str(write_config(limit=limit, protocol={"item_draw": "stream"}))])
        report = json.loads((tmp_path / "answers" / "report.json").read_text())
        assert report["items"] | {"source": 0} == {
            "expected": limit, "answered": limit, "failed": 0, "missing": 0, "source": 0
        }  # fmt: skip
        folder = EvalDir(tmp_path / "answers")
        return set(select_records(read_records(folder), limit, "stream").predictions)

    shards = open_source(load_config(EvalConfig, write_config())[0])
    order = [shards.sample(item).id for item in range(len(shards))]
    assert answered(3) == authors_items(order, 3)
    assert answered(6) == authors_items(order, 6)
    before = len(counted)
    assert answered(3) == authors_items(order, 3)
    assert len(counted) == before
