"""Rows 12, 13 and 19: disks that are full, read-only or slower than the grace of a signal."""

import contextlib
import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from configs.errors import RunError
from configs.run_dir import RunDir
from train.checkpoints.reading import newest_checkpoint, steps_present
from train.loggers.jsonl import LineFile
from train.plan import make_plan
from train.resume import lock_run, open_run

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]
FAULTY = ROOT / "tests" / "train" / "finetune_with_faults.py"


@contextmanager
def mounted(folder: Path, *options: str) -> Iterator[None]:
    """A tmpfs at `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", ",".join(options), "none", str(folder)], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"this machine lets nobody mount a tmpfs: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def start(
    training_setup, name: str, *arguments: str, faults: dict[str, object], **settings: object
) -> "subprocess.Popen[str]":
    """One rank that trains, with the faults of finetune_with_faults.py."""
    words = [sys.executable, str(FAULTY), *training_setup.arguments(name, **settings), *arguments]
    environment = {**os.environ, "FAULTS": json.dumps(faults), "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen(words, cwd=ROOT, text=True, env=environment, **pipes)


def finished(process: "subprocess.Popen[str]", code: int) -> str:
    output, _ = process.communicate(timeout=300)
    assert process.returncode == code, output[-3000:]
    return output


def wait_for(condition: Callable[[], object], process: "subprocess.Popen[str]") -> None:
    """Return as soon as `condition` holds, while `process` is running."""
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.05)
            raise AssertionError(process.communicate()[0][-3000:])


def lines(file: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def hexes(run: RunDir) -> list[tuple[object, str]]:
    return [(line["step"], line["loss"].hex()) for line in lines(run.metrics)]


@pytest.mark.fault(
    12, "4 MB tmpfs: full before a save, filled within one, full at the end", "alert, stump gone, goes on"
)
def test_a_full_disk_costs_a_checkpoint_and_not_the_run(training_setup, seen):
    """Saves at steps 4 (well), 8 (no room), 12 (filled while it is written), 16 (well) and 18, the last (no room)."""
    run, name = RunDir(training_setup.root / "runs" / "full"), "full"
    settings = {"train__max_steps": 18, "checkpoint__export": "false", "train__deterministic": "true"}
    with mounted(run.checkpoints, "size=4m"):
        faults = {"full": [[6, 9], [-1, 13], [17, 99]], "fill": 12}
        output = finished(start(training_setup, name, faults=faults, **settings), code=2)
        assert "the last checkpoint, of step 18, could not be written" in output
        told = [(event["kind"], event["step"]) for event in lines(run.events) if event["kind"].startswith("checkpoint")]
        failed = [("checkpoint_failed", step) for step in (8, 12, 18)]
        assert told == [("checkpoint", 4), *failed[:2], ("checkpoint", 16), failed[2]]
        words = [event["message"] for event in lines(run.events) if event["kind"] == "checkpoint_failed"]
        assert "must be free" in words[0]
        assert "No space left on device" in words[1]
        assert sorted(place.name for place in run.checkpoints.iterdir()) == [
            "ballast",
            "step-00000004",
            "step-00000016",
        ]
        assert newest_checkpoint(run)[0].step == 16
        first = hexes(run)
        assert [step for step, _ in first] == list(range(1, 19)), "training went on to the end"
        (run.checkpoints / "ballast").unlink()
        finished(start(training_setup, name, "--resume", "auto", faults={}, **settings), code=0)
        assert hexes(run) == first
        assert steps_present(run) == [4, 16, 18]
    assert any(event["kind"] == "deterministic" for event in lines(run.events))
    seen("4 saved, 8 no room, 12 ENOSPC within, 16 saved, 18 (last) failed: exit 2 names it; 4, 16 whole; resumed")


@pytest.mark.fault(13, "read-only folder, and a quota of 512 KiB, at start", "refused before training")
@pytest.mark.parametrize(("option", "words"), [("ro", "Read-only file system"), ("size=512k", "No space left")])
def test_a_place_that_cannot_be_written_is_refused_before_training(training_setup, seen, option, words):
    plan = make_plan(training_setup.config("unwritable"), 1, "cpu")
    with mounted(plan.run.checkpoints, option):
        with pytest.raises(RunError, match=f"cannot write checkpoints to .*{words}") as refused:
            open_run(plan, resume=False)
        assert "fix that, or set runs_dir" in str(refused.value)
        assert not any(place.name != ".probe" for place in plan.run.checkpoints.iterdir())
    seen(f"refused: {words}")


def test_a_file_of_the_run_that_cannot_be_opened_is_one_line_and_no_traceback(training_setup):
    run = RunDir(training_setup.root / "runs" / "in-the-way")
    run.metrics.mkdir(parents=True)
    output = finished(start(training_setup, "in-the-way", faults={}), code=2)
    assert f"error: [Errno 21] Is a directory: '{run.metrics}'" in output
    assert "Traceback" not in output


@pytest.mark.fault(19, "SIGTERM, and SIGKILL while the save it asks for is not done", "old checkpoint valid")
def test_a_save_longer_than_the_grace_leaves_the_old_checkpoint(training_setup, seen):
    """The save that the signal asks for waits for ever in the fsync of its second file: a disk that hangs."""
    run = RunDir(training_setup.root / "runs" / "grace")
    settings = {"train__max_steps": 3000, "train__epochs": 3000, "checkpoint__every": 20, "train__heldout_every": 0}
    process = start(training_setup, "grace", faults={"hang": "optimizer.safetensors"}, **settings)
    wait_for(
        lambda: steps_present(run) and '"step": 23,' in run.metrics.read_text(), process
    )  # saved, and well past it
    process.send_signal(signal.SIGTERM)
    wait_for((run.root / "hanging").exists, process)
    process.kill()
    process.communicate()
    (stump,) = run.checkpoints.glob(".step-*.tmp")
    interrupted = int(stump.name[len(".step-") : -len(".tmp")])
    found, problems = newest_checkpoint(run)
    assert found is not None
    assert 0 < found.step < interrupted
    assert problems == []
    resumed = start(training_setup, "grace", "--resume", "auto", faults={}, **settings)
    wait_for(lambda: newest_checkpoint(run)[0].step > interrupted, resumed)
    resumed.send_signal(signal.SIGTERM)
    finished(resumed, code=0)
    assert not stump.exists()
    seen(f"killed within the save of step {interrupted}: step {found.step} loads, the resume removes the stump")


def test_a_run_that_is_stopped_while_a_checkpoint_is_written_warns_of_it(rank_forker):
    """Every step from the third on is NaN; the checkpoint of step 4 holds that and takes longer than what is left."""
    slow = {"rank": 0, "stage": "writing", "step": 4, "do": "hold", "seconds": 2.0}
    settings = {"monitor__action": "stop", "monitor__max_skips": 2, "optim__lr_projector": 1e30, "checkpoint__every": 2}
    ranks = rank_forker.start("slow-advice", slow, **settings, train__heldout="[]")
    ranks.ended()
    assert ranks.codes == {0: 3, 1: 3}, ranks.text()[-3000:]
    assert steps_present(ranks.run) == [2, 4]
    assert "the newest checkpoint from before step 3 is step-00000002" in ranks.text()


@pytest.mark.fault(12, "disk full under metrics.jsonl", "training goes on, every line is there once there is room")
def test_lines_wait_in_memory_for_room(tmp_path, seen, capsys):
    with mounted(tmp_path / "small", "size=64k"):
        lines_file, filler = tmp_path / "small" / "metrics.jsonl", tmp_path / "small" / "filler"
        metrics = LineFile(lines_file)
        metrics.append("0")
        filler.write_bytes(bytes(os.statvfs(tmp_path / "small").f_bavail * os.statvfs(tmp_path / "small").f_bsize))
        long = [str(number) * 3000 for number in range(1, 4)]
        for line in long:
            metrics.append(line)
        assert all(line in ("0", *long) for line in lines_file.read_text().splitlines()), "never half a line"
        assert len(lines_file.read_text().splitlines()) < 4, "the disk was full"
        assert "No space left on device; lines are buffered in memory" in capsys.readouterr().err
        filler.unlink()
        metrics.append("4")
        metrics.close()
        assert lines_file.read_text().splitlines() == ["0", *long, "4"]
    seen("lines written while it was full stood whole and in order after room was made")


def test_a_second_process_is_kept_out_of_a_run(tmp_path):
    run = RunDir(tmp_path)
    code = f"""
from pathlib import Path
from configs.run_dir import RunDir
from train.resume import lock_run
lock_run(RunDir(Path({str(tmp_path)!r})))
print("claimed", flush=True)
input()
"""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    holder = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, text=True, **pipes)
    assert holder.stdout.readline() == "claimed\n"
    with pytest.raises(RunError, match=f"is being trained by process {holder.pid} on"):
        lock_run(run)
    holder.kill()
    holder.wait()
    holder.stdout.close()
    holder.stdin.close()
    lock_run(run)
    lock_run(run)  # the same process may take its run up again


def test_a_file_system_without_locks_does_not_keep_a_run_from_training(tmp_path, monkeypatch, capsys):
    def without(descriptor: int, how: int) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")  # what Linux says on Lustre without the option flock

    monkeypatch.setattr(fcntl, "lockf", without)
    lock_run(RunDir(tmp_path))
    assert "without locks" in capsys.readouterr().err


def test_a_disk_that_turns_read_only_under_metrics_jsonl_does_not_end_the_run(tmp_path, capsys):
    metrics = LineFile(tmp_path / "metrics.jsonl")
    metrics.append("1")
    healthy = metrics._file
    with metrics._path.open("rb", buffering=0) as refusing:  # takes nothing, and cannot be cut either
        metrics._file = refusing
        metrics.append("2")
    assert "buffered in memory" in capsys.readouterr().err
    metrics._file = healthy
    metrics.append("3")
    metrics.close()
    assert (tmp_path / "metrics.jsonl").read_text() == "1\n2\n3\n"
