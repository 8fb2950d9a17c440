"""A sample that went bad after the build, and a data-loading process that dies: named, on every rank."""

import errno
import itertools
import json
import math
import multiprocessing
import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from configs.errors import DataError
from data_prep.shards import ShardSet
from train.data.collate import ExampleSet, NoTargetTokensError, collate
from train.data.loader import read_steps
from train.data.sources import PositionSet, SourceSet
from train.distributed.world import World
from train.heldout import HeldOut
from train.loss import local_denominator
from train.plan import make_plan

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def damaged(training_setup, tmp_path):
    """A config whose first source has one flipped byte in the image of sample 5, and that sample's position."""
    shutil.copytree(training_setup.root / "shards", tmp_path / "shards")
    setting = f"data.shards={tmp_path / 'shards'}"
    plan = make_plan(training_setup.config("damaged", setting), 2, "cpu")
    damage(plan.sources.sets[0], [5])
    return setting


def damage(shards: ShardSet, numbers: Iterable[int]) -> None:
    """Flip one bit in the image of each of these samples."""
    for number in numbers:
        row = shards.index[number]
        tar = shards.folder / shards.manifest.shards[int(row["shard"])].name
        data = bytearray(tar.read_bytes())
        data[int(row["image_offset"]) + 40] ^= 1
        tar.write_bytes(data)


@pytest.mark.parametrize("workers", [0, 1])
def test_training_stops_and_names_the_sample(training_setup, damaged, workers):
    batches = make_plan(training_setup.config("damaged", damaged), 1, "cpu").training_batches()
    with pytest.raises(DataError) as caught:
        list(zip(range(19), batches.steps(0, 0, workers), strict=False))
    assert str(caught.value).startswith("rank 0: sample 5 of ")
    assert "train.unreadable: skip" in str(caught.value)
    assert "\n" not in str(caught.value)


class Targetless(PositionSet[str]):
    """Refuses every sample by a kind of `DataError`."""

    def __getitem__(self, position: int) -> str:
        raise NoTargetTokensError("sample x/1: no token is supervised")


@pytest.mark.parametrize("workers", [0, 1])
def test_the_message_of_a_kind_of_data_error_has_no_traceback_of_the_process_in_it(training_setup, workers):
    plan = make_plan(training_setup.config("targetless"), 1, "cpu")
    with pytest.raises(DataError) as caught:
        next(read_steps(plan.order, Targetless(plan.sources), list, 0, 0, workers))
    assert str(caught.value) == "rank 0: sample x/1: no token is supervised"


def test_a_failing_disk_is_an_error_about_the_sample(training_setup, monkeypatch):
    examples = make_plan(training_setup.config("disk"), 1, "cpu").training_batches().examples

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(SourceSet, "sample", fail)
    with pytest.raises(DataError, match=r"sample 5 of .*Input/output error; repair it, or skip it with"):
        examples[5]


def test_a_held_out_source_of_which_nothing_can_be_read_has_no_loss(training_setup, damaged):
    plan = make_plan(training_setup.config("unseen", damaged, "train.unreadable=skip"), 1, "cpu")
    damage(plan.heldout.sets[0], range(len(plan.heldout)))
    measured = HeldOut(plan.heldout_examples(), 10, 0, plan.batches).measure(
        SimpleNamespace(measure=lambda batch: torch.zeros(len(batch.ids))), World(0, 1, 0, torch.device("cpu"))
    )
    assert math.isnan(measured.losses["unseen"])


def test_by_config_it_is_replaced_by_one_that_weighs_nothing(training_setup, damaged):
    plan = make_plan(training_setup.config("damaged", damaged, "train.unreadable=skip"), 1, "cpu")
    batch = collate([plan.training_batches().examples[position] for position in (4, 5)], plan.family)
    (unreadable,) = batch.unreadable
    assert (unreadable.source, unreadable.id) == ("pictures", plan.sources.record(5).id)
    assert unreadable.reason.startswith("sample 5 of ")
    assert batch.sources.tolist() == [0, -1]
    assert local_denominator([batch], "sample") == 1


class Deadly(PositionSet[str]):
    """Ends the process that asks for a text-only record."""

    def __getitem__(self, position: int) -> str:
        if self.sources.sample(position).image is None:
            os._exit(9)
        return self.sources.sample(position).id


def test_a_process_that_dies_is_reported_with_the_samples_it_read(training_setup):
    plan = make_plan(training_setup.config("deadly"), 2, "cpu")
    steps = read_steps(plan.order, Deadly(plan.sources), list, 0, 1, workers=1)
    with pytest.raises(DataError, match=r"rank 1: a data-loading process died.*(talk|pictures)/"):
        list(zip(range(19), steps, strict=False))


def test_a_process_that_is_killed_does_not_interrupt_a_step_but_stops_the_next_read_with_names(training_setup):
    plan = make_plan(training_setup.config("killed", "train.max_steps=100", "train.epochs=100"), 1, "cpu")
    steps = plan.training_batches().steps(0, 0, 1)
    next(steps)
    (worker,) = multiprocessing.active_children()
    worker.kill()
    os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)  # in a step that runs torch's handler would raise here
    with pytest.raises(DataError, match=r"rank 0: a data-loading process died.*(talk|pictures)/"):
        list(zip(range(1000), steps, strict=False))


def test_all_ranks_stop_when_one_meets_it_and_its_name_is_printed(training_setup, deepspeed, damaged):
    name = "damaged"
    words = deepspeed("train/finetune.py", "--config", training_setup.config_file(name), "--set", damaged)
    words += ["--set", "train.max_steps=100"]
    words += ["--set", f"runs_dir={damaged.partition('=')[2]}/../runs", "--set", "train.workers=1"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode != 0
    assert "sample 5 of " in done.stdout + done.stderr


def test_every_rank_s_unreadable_samples_are_named_in_the_events_also_held_out_ones(
    training_setup, deepspeed, tmp_path
):
    """One event for each sample, from the rank that read it; a held-out one is named at its first measurement only."""
    settings = {"data.shards": tmp_path / "shards", "runs_dir": tmp_path / "runs", "train.unreadable": "skip"}
    settings |= {"train.max_steps": 8, "train.heldout_every": 4, "checkpoint.export": "false"}
    overrides = [f"{key}={value}" for key, value in settings.items()]
    shutil.copytree(training_setup.root / "shards", tmp_path / "shards")
    plan = make_plan(training_setup.config("named", *overrides), 2, "cpu")
    chosen = HeldOut(ExampleSet(plan.heldout, plan.example_builder), 10, plan.config.seed, plan.batches).chosen[
        "unseen"
    ]
    pictures = range(0, 40, 4)
    damage(plan.sources.sets[0], pictures)
    damage(plan.heldout.sets[0], chosen[:4])
    words = deepspeed("train/finetune.py", "--config", training_setup.config_file("named"))
    words += [word for override in overrides for word in ("--set", override)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [json.loads(line) for line in plan.run.events.read_text().splitlines()]
    events = [event for event in lines if event["kind"] == "unreadable_sample"]
    named = Counter((event["split"], event["source"], event["id"], event["rank"]) for event in events)
    expected = Counter(
        ("train", "pictures", plan.sources.record(position).id, rank)
        for rank in (0, 1)
        for step in itertools.islice(plan.order.positions(0, rank), 8)
        for position in (position for micro_batch in step for position in micro_batch)
        if position in pictures
    )
    heldout = {key[2] for key in named if key[0] == "heldout"}
    assert named == expected | Counter(key for key in named if key[0] == "heldout")
    assert heldout == {plan.heldout.record(position).id for position in chosen[:4]}
    assert all(count == 1 for key, count in named.items() if key[0] == "heldout")
    assert {(event["split"], event["rank"]) for event in events} == set(itertools.product(("train", "heldout"), (0, 1)))
    assert all("sample " in event["reason"] for event in events)
    counts = [json.loads(line)["unreadable_samples"] for line in plan.run.metrics.read_text().splitlines()]
    assert sum(counts) == sum(expected.values())
