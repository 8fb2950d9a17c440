"""A training by the recipe `official`, resumed in the middle: LLaVA's order and loss go on exactly."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from configs.run_dir import RunDir
from train.checkpoints.reading import steps_present

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
SMALL = {"recipe": "official", "model__dtype": "fp32", "chat__max_length": 256, "chat__system_prompt": "none"}


def train(training_setup, *more: str, **settings: object) -> "subprocess.CompletedProcess[str]":
    words = [*training_setup.arguments("authors", **SMALL, **settings), *more]
    return subprocess.run(
        [sys.executable, "train/finetune.py", *words], cwd=ROOT, capture_output=True, text=True, timeout=300
    )


def losses(run: RunDir) -> list[str]:
    return [json.loads(line)["loss"].hex() for line in run.metrics.read_text().splitlines()]


def test_a_resumed_run_continues_bit_for_bit_and_records_its_recipe(training_setup):
    done = train(training_setup)
    assert done.returncode == 0, done.stderr[-3000:]
    run = RunDir(training_setup.root / "runs" / "authors")
    straight = losses(run)
    record = json.loads((run.export / "export.json").read_text())
    changed = record["recipe"]["changed"]
    assert record["recipe"]["name"] == "official"
    assert changed == {"model.dtype": "fp32", "chat.max_length": 256, "chat.system_prompt": "none"}
    for step in steps_present(run):
        if step > 4:
            shutil.rmtree(run.checkpoint(step))
    shutil.rmtree(run.export)
    other = train(training_setup, "--resume", "auto", train__batching="padded")
    assert other.returncode == 2 and "train.batching 'llava_groups' -> None" in other.stderr
    again = train(training_setup, "--resume", "auto")
    assert again.returncode == 0, again.stderr[-3000:]
    assert losses(run) == straight and len(straight) == 12


def test_the_dry_run_says_what_the_recipe_does_to_order_and_last_batch(training_setup):
    shown = train(training_setup, "--dry-run", "--world", "2").stdout
    assert "order             that of LLaVA's sampler" in shown
    assert "20 (4 samples in a batch filled up with the first ones each epoch)" in shown
    assert "llava_groups" in shown and "(train.batching)" in shown
