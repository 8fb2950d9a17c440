"""A sample that went bad after the build, and a data-loading process that dies: named, on every rank."""

import multiprocessing
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from configs.errors import DataError
from configs.load import load_config
from configs.run import RunConfig
from train.data.collate import collate
from train.data.loader import read_steps
from train.data.sources import PositionSet
from train.loss import local_units
from train.plan import make_plan

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def damaged(workshop, tmp_path):
    """A config whose first source has one flipped byte in the image of sample 5, and that sample's position."""
    shutil.copytree(workshop.root / "shards", tmp_path / "shards")
    setting = f"data.shards={tmp_path / 'shards'}"
    plan = make_plan(workshop.config("damaged", setting), 2, "cpu")
    shards = plan.sources.sets[0]
    tar = shards.folder / shards.manifest.shards[0].name
    data = bytearray(tar.read_bytes())
    data[int(shards.index[5]["image_offset"]) + 40] ^= 1
    tar.write_bytes(data)
    return setting


@pytest.mark.parametrize("workers", [0, 1])
def test_training_stops_and_names_the_sample(workshop, damaged, workers):
    batches = make_plan(workshop.config("damaged", damaged), 1, "cpu").training_batches()
    with pytest.raises(DataError) as caught:
        list(zip(range(19), batches.steps(0, 0, workers), strict=False))
    assert str(caught.value).startswith("rank 0: sample 5 of ")
    assert "train.unreadable: skip" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_by_config_it_is_replaced_by_one_that_weighs_nothing(workshop, damaged):
    plan = make_plan(workshop.config("damaged", damaged, "train.unreadable=skip"), 1, "cpu")
    batch = collate([plan.training_batches().examples[position] for position in (4, 5)])
    assert len(batch.problems) == 1
    assert batch.problems[0].startswith("sample 5 of ")
    assert batch.sources.tolist() == [0, -1]
    assert local_units([batch], "sample") == 1


class Deadly(PositionSet[str]):
    """Ends the process that asks for a text-only record."""

    def __getitem__(self, position: int) -> str:
        if self.sources.sample(position).image is None:
            os._exit(9)
        return self.sources.sample(position).id


def test_a_process_that_dies_is_told_with_the_samples_it_read(workshop):
    plan = make_plan(workshop.config("deadly"), 2, "cpu")
    steps = read_steps(plan.order, Deadly(plan.sources), list, 0, 1, workers=1)
    with pytest.raises(DataError, match=r"rank 1: a data-loading process died.*(talk|pictures)/"):
        list(zip(range(19), steps, strict=False))


def test_a_process_that_is_killed_does_not_interrupt_a_step_but_stops_the_next_read_with_names(workshop):
    plan = make_plan(workshop.config("killed", "train.max_steps=100", "train.epochs=100"), 1, "cpu")
    steps = plan.training_batches().steps(0, 0, 1)
    next(steps)
    (worker,) = multiprocessing.active_children()
    worker.kill()
    os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)  # in a step that runs torch's handler would raise here
    with pytest.raises(DataError, match=r"rank 0: a data-loading process died.*(talk|pictures)/"):
        list(zip(range(1000), steps, strict=False))


def test_all_ranks_stop_when_one_meets_it_and_its_name_is_printed(workshop, deepspeed, damaged):
    name = "damaged"
    words = deepspeed("train/finetune.py", "--config", workshop.config_file(name), "--set", damaged)
    words += ["--set", "train.max_steps=100"]
    words += ["--set", f"runs_dir={damaged.partition('=')[2]}/../runs", "--set", "train.workers=1"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert done.returncode != 0
    assert "sample 5 of " in done.stdout + done.stderr


def test_a_run_that_passes_it_over_counts_it(workshop, damaged):
    config, _ = load_config(RunConfig, workshop.config_file("counted"), [damaged])
    runs = Path(config.data.shards).parent / "runs"
    words = [sys.executable, "train/finetune.py", "--config", str(workshop.config_file("counted")), "--set", damaged]
    for setting in ("train.unreadable=skip", "train.max_steps=100", "train.eval_every=0", f"runs_dir={runs}"):
        words += ["--set", setting]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "rank 0 passes over sample 5 of" in done.stderr
    assert '"unreadable_samples": 1' in (runs / "counted" / "metrics.jsonl").read_text()
    assert "1 samples weigh nothing" in (runs / "counted" / "events.jsonl").read_text()
