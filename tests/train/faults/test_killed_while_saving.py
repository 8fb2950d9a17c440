"""Rows 5 to 8: SIGKILL at random instants of a save (kill_during_save.py); the old or the new checkpoint is left."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

KILLS = Path(__file__).with_name("kill_during_save.py")
ROWS = {
    "payload": (5, "kill -9 rank 0 while it writes"),
    "gather": (6, "kill -9 rank 1 while the state is gathered"),
    "commit": (7, "kill -9 rank 0 between payload and commit"),
    "prune": (8, "kill -9 rank 0 while it deletes an old one"),
}
EXPECTED = "previous or new one loads, 0 broken"


def kills(training_setup, folder: Path, phases: str, trials: int) -> dict[str, dict[str, float]]:
    words = [
        sys.executable,
        str(KILLS),
        phases,
        str(trials),
        "11",
        str(folder),
        str(training_setup.config_file("kills")),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}
    done = subprocess.run(words, capture_output=True, text=True, timeout=900, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def few(training_setup, tmp_path_factory) -> dict[str, dict[str, float]]:
    return kills(training_setup, tmp_path_factory.mktemp("few"), "payload,commit,prune", 3)


@pytest.fixture(scope="module")
def many(training_setup, tmp_path_factory) -> dict[str, dict[str, float]]:
    return kills(training_setup, tmp_path_factory.mktemp("many"), "payload,gather,commit,prune", 40)


def judge(found: dict[str, float], seen) -> None:
    text = f"{found['trials']:.0f} kills: {found['previous']:.0f} x previous, {found['new']:.0f} x new"
    text += f", {found['half']:.0f} left halves behind"
    seen(f"{text}, {found['broken']:.0f} broken (phase of {found['phase_ms']:.1f} ms)")
    assert found["broken"] == 0
    assert found["previous"] + found["new"] == found["trials"]


@pytest.mark.parametrize(
    "phase",
    [
        pytest.param(p, marks=pytest.mark.fault(ROWS[p][0], f"{ROWS[p][1]}, 3 times", EXPECTED))
        for p in ("payload", "commit", "prune")
    ],
)
def test_a_few_kills(few, seen, phase):
    judge(few[phase], seen)


@pytest.mark.parametrize(
    "phase",
    [
        pytest.param(p, marks=pytest.mark.fault(ROWS[p][0], f"{ROWS[p][1]}, 40 times", EXPECTED, long=True))
        for p in ROWS
    ],
)
def test_many_kills(many, seen, phase):
    judge(many[phase], seen)
    assert phase == "gather" or many[phase]["half"] > 0, "kills do strike within the phase"
