"""Shares of sources in the loss, against a sum over single steps."""

import json
import sys

import numpy as np
import pytest

from configs.batch_plan import plan_batches
from configs.errors import DataError
from train.benchmarks import loss_shares as program
from train.benchmarks import source_shares as module
from train.benchmarks.source_shares import Samples, loss_shares, modelled
from train.data.llava_groups import LlavaGroups
from train.data.order import EpochOrder, Mixture
from train.data.packing import BatchPartitioner

RNG = np.random.default_rng(0)
SOURCES = np.repeat([0, 1], [60, 40])
SAMPLES = Samples(
    ("classes", "talk"),
    SOURCES,
    np.where(SOURCES == 0, RNG.integers(2, 6, 100), RNG.integers(0, 90, 100)),
    RNG.integers(1, 50, 100),
    (SOURCES == 0) | (RNG.random(100) < 0.5),
)
PLAN = plan_batches(12, 2, 3, 3)


def slow_share(reduction: str, batching: str) -> float:
    """Share of the first source, micro-batch after micro-batch."""
    groups = LlavaGroups(SAMPLES.words, SAMPLES.with_image, 3, 4) if batching == "llava_groups" else None
    order = EpochOrder.of(Mixture(((60,), (40,)), (1.0, 1.0), 100, groups=groups), 0, 0)
    shares = []
    for step in range(8):
        ranks = BatchPartitioner(PLAN, batching).all_ranks(order.step(step, 12))
        weights = {}
        taught = [[p for p in micro if SAMPLES.targets[p]] for rank in ranks for micro in rank]
        for micro in filter(None, taught):
            for p in micro:
                weights[p] = {
                    "token": SAMPLES.targets[p],
                    "sample": 1,
                    "micro_batch": SAMPLES.targets[p] / sum(SAMPLES.targets[q] for q in micro),
                }[reduction]
        shares.append(sum(w for p, w in weights.items() if SOURCES[p] == 0) / sum(weights.values()))
    return float(np.mean(shares))


@pytest.mark.parametrize("reduction", ["token", "sample", "micro_batch"])
@pytest.mark.parametrize("batching", ["padded", "llava_groups"])
def test_a_share_is_the_mean_over_steps_of_the_weights_of_a_source(reduction, batching):
    found = loss_shares(SAMPLES, PLAN)[f"{reduction}, {batching}"]
    assert found["classes"] == pytest.approx(slow_share(reduction, batching), abs=1e-12)
    assert sum(found.values()) == pytest.approx(1)


def test_llavas_micro_batches_are_close_to_tokens_and_mixed_ones_are_not(monkeypatch, capsys):
    few = modelled(fraction=0.02)
    monkeypatch.setattr(module, "modelled", lambda: few)
    monkeypatch.setattr(sys, "argv", ["loss_shares", "--json"])
    program.main()
    values = json.loads(capsys.readouterr().out)
    shares = {name: of["imagenet"] for name, of in values["shares"].items()}
    assert shares["token, padded"] < shares["micro_batch, llava_groups"] < shares["micro_batch, padded"] < 0.25
    assert shares["sample, padded"] == pytest.approx(1_281_167 / (1_281_167 + 665_298), abs=0.01)
    assert values["modelled"] and values["batch"] == 64


def test_fewer_samples_than_a_batch_are_one_line():
    with pytest.raises(DataError, match="do not fill one batch of 128"):
        loss_shares(SAMPLES, plan_batches(128, 1, 8, 8))
