"""Which items are asked, by whom, together with which."""

from itertools import pairwise

import pytest

from configs.errors import ConfigError
from data_prep.shard_index import id_hash
from eval.runner.batching import Share, batches_of, chosen_items

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
