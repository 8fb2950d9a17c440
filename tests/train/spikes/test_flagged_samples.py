"""An alert names the samples of its steps."""

import doctest

import pytest

from configs.errors import DataError
from train.plan import make_plan
from train.spikes import flagged_samples
from train.spikes.alerts import Alert
from train.spikes.flagged_samples import SampleLookup
from train.tools.epoch_order import ids_of_rank


@pytest.fixture(scope="module")
def plan(training_setup):
    return make_plan(training_setup.config("flagged_steps"), 2, "cpu")


@pytest.fixture
def sample_lookup(plan) -> SampleLookup:
    return SampleLookup(plan.sources, plan.order)


def read_by_ranks(plan, step: int) -> set[str]:
    return {
        sample
        for rank in (0, 1)
        for ids in ids_of_rank(plan.order, plan.sources, rank, 0, step, step + 1)
        for sample in ids
    }


@pytest.mark.parametrize("step", [0, 7, 40])
def test_the_ids_are_those_the_ranks_read(plan, sample_lookup, step):
    assert set(sample_lookup.ids(step)) == read_by_ranks(plan, step)
    assert len(sample_lookup.ids(step)) == 8


def test_a_source_s_loss_names_that_source_s_samples_and_the_norm_names_all(plan, sample_lookup):
    steps = [Alert(step + 1, "loss/talk", "outlier", 9.0) for step in range(10)]
    for alert in steps:
        (ids,) = sample_lookup.ids_for(alert, lambda step: step).values()
        assert set(ids) <= read_by_ranks(plan, alert.step - 1)
        talk = {sample for sample in sample_lookup.ids(alert.step - 1) if sample.startswith("talk/")}
        assert set(ids) == talk
    assert 0 < len(talk) < 8
    assert len(sample_lookup.ids_for(Alert(3, "grad_norm/pictures+talk", "outlier", 9.0), lambda step: step)["2"]) == 8


def test_an_episode_names_its_first_steps_where_a_rollback_has_put_them(sample_lookup):
    found = sample_lookup.ids_for(Alert(50, "loss/talk", "recovered", 1.0, since=40), lambda step: step + 1000)
    assert list(found) == [str(1000 + step) for step in range(39, 47)]
    assert (
        found["1039"] == sample_lookup.ids_for(Alert(40, "loss/talk", "outlier", 9.0), lambda step: step + 1000)["1039"]
    )


def test_a_shard_that_is_gone_does_not_end_the_run(sample_lookup, monkeypatch):
    def gone(_: int) -> None:
        raise DataError("shard 3 is gone")

    monkeypatch.setattr(sample_lookup.sources, "record", gone)
    assert sample_lookup.ids_for(Alert(3, "grad_norm/a", "outlier", 9.0), lambda step: step) == {
        "2": "not read: shard 3 is gone"
    }


def test_the_examples_in_the_docstrings_hold():
    assert doctest.testmod(flagged_samples).failed == 0
    assert doctest.testmod(flagged_samples).attempted >= 2
