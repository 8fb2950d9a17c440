"""A crashed run is told from a slow one, a waiting one and a finished one; only those that train have a time left."""

import json
import os
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from configs.run_dir import RunDir, SlurmDir
from data_prep.file_lock import is_held
from launch.run_state import RunState, run_state
from launch.slurm_states import job_states
from launch.watch import follow, state

ROOT = Path(__file__).parents[2]
HOLD = "import sys, pathlib; from data_prep.file_lock import hold_until_exit as hold; hold(pathlib.Path(sys.argv[1]));"
CONFIG = """
name: x
data: {sources: {toy: {reader: toy_world}}}
model: {base: x}
train: {sources: [toy], epochs: 2, step_timeout: 1800}
"""
PROGRAM = """#!/bin/bash
# Answers for job 7 what the file of its name says; fails without one.
[[ $* == *--jobs=7* && -s $(dirname "$0")/$(basename "$0").answer ]] && cat "$(dirname "$0")/$(basename "$0").answer"
"""
Answer = Callable[..., None]


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """A run of 100 steps of 2 s each, whose total is known."""
    folder = RunDir(tmp_path / "run")
    folder.root.mkdir()
    folder.config.write_text(CONFIG)
    lines = [{"step": n, "loss": 1.0, "step_s": 2.0, "epoch": n / 950} for n in range(1, 101)]
    folder.metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Answer:
    """Stand-ins for squeue and sacct; neither knows a job until it is told."""
    (tmp_path / "bin").mkdir()
    for name in ("squeue", "sacct"):
        (tmp_path / "bin" / name).write_text(PROGRAM)
        (tmp_path / "bin" / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")

    def answer(**texts: str) -> None:
        for name, text in texts.items():
            (tmp_path / "bin" / f"{name}.answer").write_text(text)

    return answer


def started(run: RunDir, ago: float = 10_000, **about: Any) -> None:
    """The last start of the run, without an end unless `about` has one."""
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - ago))
    run.provenance.write_text(json.dumps([{"start": moment, "end": None, "outcome": None, **about}]))


def silent(run: RunDir, seconds: float) -> None:
    """Nothing was written for `seconds`."""
    moment = time.time() - seconds
    for file in (run.metrics, run.events):
        if file.exists():
            os.utime(file, (moment, moment))


def judged(run: RunDir) -> RunState:
    found = run_state(run, [json.loads(line) for line in run.metrics.read_text().splitlines()])
    assert found is not None
    return found


@contextmanager
def held(lock: Path) -> Iterator[int]:
    """The lock is held by another process, as by rank 0 of a training."""
    argv = [sys.executable, "-c", f"{HOLD} print(flush=True); sys.stdin.read()", str(lock)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
        process.communicate(b"")


def has_eta(run: RunDir) -> bool:
    return any("ETA" in line for line in state(run))


def test_a_run_whose_lock_is_held_trains_or_is_slow_however_long_it_is_silent(run: RunDir) -> None:
    started(run)
    assert not is_held(run.lock)
    with held(run.lock) as pid:
        assert is_held(run.lock)
        assert str(judged(run)) == f"running: process {pid} on {socket.gethostname()} trains it"
        silent(run, 55)
        assert judged(run).word == "running"
        silent(run, 9000)
        assert str(judged(run)).startswith(f"slow: nothing was written for 2.5 h, a step takes 2 s; process {pid}")
        assert has_eta(run)
    silent(run, 0)
    assert str(judged(run)) == f"crashed: process {pid} of this machine has gone without recording an end: killed"
    assert not has_eta(run)


def test_a_job_that_ended_without_an_end_of_the_training_is_a_crash(run: RunDir, slurm: Answer) -> None:
    started(run, slurm_job="7")
    for answers in ({"squeue": "OUT_OF_MEMORY|None\n"}, {"squeue": "", "sacct": "OUT_OF_MEMORY\n"}):
        slurm(**answers)
        assert str(judged(run)) == "crashed: job 7 is OUT_OF_MEMORY, and the training recorded no end"
    slurm(squeue="", sacct="CANCELLED by 1000\n")
    assert "job 7 is CANCELLED," in str(judged(run))
    assert not has_eta(run)


def test_a_job_that_runs_is_slow_and_one_that_waits_waits(run: RunDir, slurm: Answer) -> None:
    started(run, slurm_job="7")
    slurm(squeue="RUNNING|None\n")
    assert str(judged(run)) == "running: job 7 is RUNNING"
    silent(run, 4000)
    assert str(judged(run)) == "slow: nothing was written for 67 min, a step takes 2 s; job 7 is RUNNING"
    assert has_eta(run)
    slurm(squeue="PENDING|BeginTime\n")
    assert str(judged(run)) == "waiting: job 7 is PENDING (BeginTime)"
    assert not has_eta(run)
    started(run, slurm_job="7", end="2026-03-01T12:00:00Z", outcome="stopped by a signal")
    assert judged(run).word == "waiting", "requeued after a signal"


def test_a_chain_whose_training_was_never_started_says_what_it_waits_for(run: RunDir, slurm: Answer) -> None:
    run.metrics.unlink()
    jobs = SlurmDir(run.slurm).jobs
    jobs.parent.mkdir()
    jobs.write_text(json.dumps([{"stage": "data_prep.run", "id": "6"}, {"stage": "finetune", "id": "7"}]))
    slurm(squeue="PENDING|Dependency\n")
    assert str(run_state(run, [])) == "waiting: job 7 is PENDING (Dependency)"
    slurm(squeue="", sacct="CANCELLED by 0\n")
    assert str(run_state(run, [])).startswith("crashed: job 7 is CANCELLED")


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        ("finished", "finished: at 2026-03-01T12:00:00Z"),
        ("stopped by the monitor", "stopped: at 2026-03-01T12:00:00Z, stopped by the monitor"),
        ("OutOfMemoryError: CUDA", "crashed: at 2026-03-01T12:00:00Z, OutOfMemoryError: CUDA"),
    ],
)
def test_a_recorded_end_is_the_end(run: RunDir, outcome: str, expected: str) -> None:
    started(run, end="2026-03-01T12:00:00Z", outcome=outcome)
    assert str(judged(run)) == expected
    assert not has_eta(run)


def test_stack_traces_of_this_start_are_a_hang_and_older_ones_are_not(run: RunDir) -> None:
    run.hang(3).write_text("Thread 0x7f ...")
    started(run, ago=100)
    assert "hang-rank-3.txt" in str(judged(run)) and judged(run).word == "crashed"
    moment = time.time() - 5000
    os.utime(run.hang(3), (moment, moment))
    assert judged(run).word == "running"


def test_a_watchdogs_last_event_is_a_crash(run: RunDir) -> None:
    started(run)
    event = {"kind": "failed", "step": 100, "message": "rank 1 on node2 died\nmore"}
    assert str(run_state(run, [{"step": 100, "step_s": 2.0}], [event])) == "crashed: rank 1 on node2 died"
    run.events.write_text(json.dumps(event) + "\n" + json.dumps({"kind": "resume", "step": 100, "message": ""}) + "\n")
    assert judged(run).word == "running", "it was started again"


@pytest.mark.slow
def test_without_lock_process_and_job_the_silence_is_counted_in_steps(run: RunDir) -> None:
    started(run)
    for seconds, word in ((50, "running"), (300, "unknown"), (3500, "unknown"), (3700, "crashed")):
        silent(run, seconds)
        assert judged(run).word == word, seconds
        assert has_eta(run) is (word == "running")
    assert "no process, lock or SLURM job" in (silent(run, 300), str(judged(run)))[1]


def test_a_start_has_time_for_its_first_step(run: RunDir) -> None:
    silent(run, 9000)
    started(run, ago=400)
    assert judged(run).word == "running"
    started(run, ago=900)
    assert judged(run).word == "unknown"


def test_slurm_is_asked_for_numbers_only(slurm: Answer) -> None:
    slurm(squeue="RUNNING|None\n")
    assert [str(one) for one in job_states(["7", "7;id", "--jobs=7", "8"])] == ["job 7 is RUNNING"]


def test_following_a_run_says_when_it_dies(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    started(run)
    lines = follow(run, 10.0)
    ends = iter([lambda: None, lambda: started(run, end="2026-03-01T12:00:00Z", outcome="RunError: disk full")])
    monkeypatch.setattr(time, "sleep", lambda seconds: next(ends)())
    assert next(lines) == "crashed: at 2026-03-01T12:00:00Z, RunError: disk full"
