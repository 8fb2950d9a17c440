"""The real command ends with code 3 where the monitor ends the run, and says why."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from configs.run_dir import RunDir
from train.checkpoints.reading import open_checkpoint

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


def ruined_run(training_setup, deepspeed, action: str) -> tuple[subprocess.CompletedProcess[str], RunDir, list[Any]]:
    """Two ranks whose weights overflow in step 2, the first of a rate above 0: every loss after that is NaN."""
    name = f"ruined-{action}"
    settings = {"monitor__action": action, "monitor__max_skips": 2, "monitor__max_rollbacks": 1}
    arguments = training_setup.arguments(name, **settings, optim__lr_projector=1e30, train__heldout="[]")
    command = deepspeed("train/finetune.py", *arguments)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    run = RunDir(training_setup.root / "runs" / name)
    return done, run, [json.loads(line) for line in run.events.read_text().splitlines()]


def test_stop_ends_the_run_with_code_3_after_too_many_skips(training_setup, deepspeed):
    done, run, events = ruined_run(training_setup, deepspeed, "stop")
    assert done.returncode == 3, done.stderr[-3000:]
    assert "stopped by the monitor after step 5: 3 steps in a row were skipped" in done.stderr
    assert [event["step"] for event in events if event["kind"] == "skipped"] == [3, 4, 5]
    assert events[-1]["kind"] == "stopped_by_monitor"
    assert not run.export.exists()


def test_a_spent_budget_ends_the_run_with_code_3_and_leaves_the_good_checkpoint(training_setup, deepspeed):
    done, run, events = ruined_run(training_setup, deepspeed, "rollback")
    assert done.returncode == 3, done.stderr[-3000:]
    assert "monitor.max_rollbacks 1 were used" in done.stderr
    kinds = [event["kind"] for event in events if event["kind"] in ("rolled_back", "skipped", "stopped_by_monitor")]
    assert kinds == [*["skipped"] * 3, "rolled_back", *["skipped"] * 3, "stopped_by_monitor"]
    assert not run.export.exists()
    assert all(bool(weight.isfinite().all()) for weight in open_checkpoint(run, 0).weights().values())
    assert "the newest checkpoint from before step 3 is step-00000000" in done.stderr, (
        "that of step 4 holds the trouble"
    )
