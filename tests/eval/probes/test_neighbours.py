"""Nearest neighbours: those of a slow search, whatever the blocks, and a vote whose ties are decided by a rule."""

import math

import numpy as np
import pytest
import torch

from configs.errors import ConfigError, RunError
from configs.knn import KnnConfig
from eval.models.hidden_state_file import RowFormat
from eval.probes import neighbours
from eval.probes.knn import knn
from eval.probes.neighbours import nearest, voted
from eval.probes.store import StoredStates


def stored(states, labels, hashes=None, tokens=9):
    """States (N, F, H) in memory, as `open_states` gives them."""
    numbers = np.arange(len(labels))
    return StoredStates(
        RowFormat(tuple(map(str, range(states.shape[1]))), states.shape[2]),
        torch.tensor(labels),
        numbers.astype(np.uint64) if hashes is None else np.array(hashes, dtype=np.uint64),
        np.full(len(labels), tokens),
        [states.half().numpy()],
        0 * numbers,
        numbers,
        [],
    )


def random_states(count, seed):
    """Small whole numbers, so that many items are exactly equally similar; some states are zero."""
    drawn = torch.Generator().manual_seed(seed)
    states = torch.randint(-1, 2, (count, 2, 3), generator=drawn).float()
    return stored(states, torch.randint(4, (count,), generator=drawn).tolist())


def slow_similarity(metric, a, b, mean):
    """As the settings define it, in plain Python."""
    if metric == "cosine":
        lengths = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(x * x for x in b))
        return sum(x * y for x, y in zip(a, b, strict=True)) / lengths if lengths else 0.0
    return 1 - sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) / (2 * mean)


def slow_prediction(train, test, item, column, k, metric, temperature):
    """Sort all training items, count votes by class, and break ties as the module says."""
    rows = train.files[0][:, column].astype(float).tolist()
    query = test.files[0][item, column].astype(float).tolist()
    mean = sum(x * x for row in rows for x in row) / len(rows)
    alike = [round(slow_similarity(metric, query, row, mean), 5) for row in rows]
    order = sorted(range(len(rows)), key=lambda n: (-alike[n], n))[:k]
    votes: dict[int, float] = {}
    for n in order:
        votes[int(train.labels[n])] = votes.get(int(train.labels[n]), 0.0) + (
            1.0 if temperature is None else math.exp(alike[n] / temperature)
        )
    best = max(votes.values())
    return next(int(train.labels[n]) for n in order if votes[int(train.labels[n])] > best - 1e-6 * best)


@pytest.mark.parametrize("metric", ["cosine", "l2"])
@pytest.mark.parametrize("block_bytes", [2**27, 3000])
def test_votes_are_those_of_a_slow_search_in_blocks_of_any_size(metric, block_bytes, monkeypatch):
    monkeypatch.setattr(neighbours, "BLOCK_BYTES", block_bytes)
    train, test = random_states(40, 1), random_states(17, 2)
    found = nearest(train, test, [0, 1], 7, metric)
    for column in (0, 1):
        for k, temperature in ((1, None), (4, None), (7, 0.5)):
            labels, alike = train.labels[found.items[column, :, :k]], found.similarities[column, :, :k]
            ours = voted(labels, alike, 4, temperature).tolist()
            assert ours == [slow_prediction(train, test, n, column, k, metric, temperature) for n in range(17)]


def test_of_equal_states_the_items_with_the_smaller_hashes_are_the_neighbours():
    train = stored(torch.ones(300, 1, 5) * 0.3, [n % 3 for n in range(300)])
    found = nearest(train, stored(torch.rand(4, 1, 5), [0] * 4), [0], 5, "l2")
    assert found.items.tolist() == [[[0, 1, 2, 3, 4]] * 4]


def test_a_tie_is_won_by_the_class_of_the_nearest_neighbour():
    labels, alike = torch.tensor([[2, 1, 1, 2], [0, 3, 3, 3]]), torch.tensor([[0.9, 0.8, 0.7, 0.6]] * 2).double()
    assert voted(labels, alike, 4, None).tolist() == [2, 3]
    assert voted(labels, alike, 4, 0.01).tolist() == [2, 0], "the nearest outweighs the rest at a low temperature"


def test_no_item_is_a_neighbour_of_itself_when_both_sources_are_one():
    items = stored(torch.tensor([[[1.0, 0]], [[1.0, 0.1]], [[0.0, 1]], [[0.1, 1]]]), [0, 0, 1, 1], [9, 3, 7, 2**63 + 5])
    found = nearest(items, items, [0], 1, "cosine", leave_one_out=True)
    assert found.items[0, :, 0].tolist() == [1, 0, 3, 2]
    row = knn(items, items, KnnConfig(k=(1,), votes=("majority",)), leave_one_out=True)["rows"][0]
    assert (row["accuracy"]["count"], row["accuracy"]["n"]) == (4, 4)


def test_one_enormous_state_makes_the_others_no_more_alike():
    usual = torch.rand(40, 1, 16, generator=torch.Generator().manual_seed(3))
    enormous = torch.cat([usual, torch.full((1, 1, 16), 60000.0)])
    test = stored(usual + 0.01, [0] * 40)
    without, found = (nearest(stored(states, [0] * len(states)), test, [0], 3, "l2") for states in (usual, enormous))
    assert torch.equal(without.items, found.items)
    assert found.items[0, :, 0].tolist() == list(range(40)), "each is nearest to its twin"


def test_a_large_state_does_not_overflow_its_weighted_vote():
    train = stored(torch.tensor([[[30000.0, 0]], [[0.0, 1]], [[0.0, 2]]]), [0, 1, 1])
    test = stored(torch.tensor([[[0.0, -60000.0]]]), [1])
    row = knn(train, test, KnnConfig(k=(3,), votes=("weighted",), metric="l2", temperature=1e-3))["rows"][0]
    assert row["accuracy"]["count"] == 1


@pytest.mark.parametrize(("leave_one_out", "most"), [(False, 3), (True, 2)])
def test_more_neighbours_than_there_are_items_are_refused_with_the_limit(leave_one_out, most):
    items = stored(torch.rand(3, 1, 2), [0, 1, 1])
    with pytest.raises(RunError, match=f"knn.k has 20, and there are {most} items.*at most {most}"):
        knn(items, items, KnnConfig(), leave_one_out=leave_one_out)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"k": (0,)}, "knn.k has 0"),
        ({"k": ()}, "at least one"),
        ({"k": (5, 5)}, r"\[5, 5\]"),
        ({"votes": ("loud",)}, "'loud'; choose of: majority, weighted"),
        ({"temperature": 0.0}, "above 0"),
    ],
)
def test_a_mistake_in_the_settings_is_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        KnnConfig(**settings)
