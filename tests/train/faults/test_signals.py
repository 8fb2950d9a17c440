"""Requests to stop, wherever they meet a run: one checkpoint at an agreed step, a marker, exit code 0 on every rank."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from configs.run_dir import RunDir
from train.checkpoints.reading import newest_checkpoint, steps_present

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]
ENDLESS = {"train__max_steps": 100_000, "train__epochs": 100_000, "checkpoint__every": 100_000}
SAVED = "one checkpoint at one step, marker, rc 0"


def check_saved(ranks) -> int:
    """The step at which all ranks of an endless run stopped and saved."""
    assert ranks.codes == {0: 0, 1: 0}, ranks.text()[-3000:]
    assert ranks.run.requeue.is_file()
    steps = steps_present(ranks.run)
    assert len(steps) == 1
    assert newest_checkpoint(ranks.run)[0].step == steps[0]
    assert max([line["step"] for line in ranks.metrics()], default=0) == steps[0]
    return steps[0]


def signal_cells():
    for number, rank in ((signal.SIGUSR2, 1), (signal.SIGTERM, 0), (signal.SIGINT, 1), (signal.SIGUSR1, 0)):
        mark = pytest.mark.fault(16, f"{number.name} to rank {rank} alone", SAVED, long=number != signal.SIGUSR2)
        yield pytest.param(number, rank, marks=mark, id=number.name)


@pytest.mark.parametrize(("number", "rank"), list(signal_cells()))
def test_any_signal_to_any_rank_stops_all_at_one_step(rank_forker, seen, number, rank):
    ranks = rank_forker.start(f"{number.name}", **ENDLESS)
    ranks.wait_for_step(2)
    os.kill(ranks.pids[rank], number)
    seconds = ranks.ended()
    seen(f"saved at step {check_saved(ranks)}, rc 0 on both after {seconds:.1f} s")


@pytest.mark.fault(18, "four signals to each rank while it saves", SAVED)
def test_more_signals_while_saving_change_nothing(rank_forker, seen):
    hold = {"rank": 0, "stage": "checkpoint", "step": 3, "do": "hold"}
    ranks = rank_forker.start("twice", hold, **{**ENDLESS, "checkpoint__every": 3})
    ranks.wait_until_reached()
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGTERM, signal.SIGINT):
        for pid in ranks.pids:
            os.kill(pid, number)
    ranks.release()
    ranks.ended()
    step = check_saved(ranks)
    assert step in (3, 4), "at once, or after the step that had begun"
    seen(f"one checkpoint, of step {step}; rc 0 on both")


@pytest.mark.fault(17, "SIGTERM to rank 0 while rank 1 waits for data for ever", SAVED)
def test_a_rank_that_waits_for_data_hears_of_it(rank_forker, uninterrupted, seen):
    """Rank 1's data worker blocks; only rank 0 is signalled, and it waits for rank 1 in a collective."""
    block = {"rank": 1, "stage": "reading", "nth": 18, "do": "hang"}
    ranks = rank_forker.start("waiting", block, train__workers=1)
    ranks.wait_until_reached()
    ranks.wait_for_step(4)
    os.kill(ranks.pids[0], signal.SIGTERM)
    seconds = ranks.ended()
    assert ranks.codes == {0: 0, 1: 0}, ranks.text()[-3000:]
    assert ranks.run.requeue.is_file()
    step = steps_present(ranks.run)[-1]
    assert step == ranks.metrics()[-1]["step"]
    resumed = rank_forker.start("waiting", resume=True, train__workers=1)
    resumed.ended()
    assert resumed.hexes() == uninterrupted.hexes()
    assert not resumed.run.requeue.exists()
    seen(f"rc 0 on both {seconds:.1f} s after the signal, saved at step {step}; resumed bit-equal")


@pytest.mark.fault(17, "SIGUSR1 to rank 0 while it exports", "marker, rc 0; resuming exports")
def test_a_stop_while_exporting_leaves_the_mark_and_resuming_exports(rank_forker, seen):
    hold = {"rank": 0, "stage": "export", "step": 12, "do": "hold"}
    ranks = rank_forker.start("exporting", hold, checkpoint__export="true")
    ranks.wait_until_reached()
    os.kill(ranks.pids[0], signal.SIGUSR1)
    ranks.ended()
    assert ranks.codes == {0: 0, 1: 0}
    assert ranks.run.requeue.is_file()
    assert not ranks.run.export.exists()
    assert not list(ranks.run.root.glob(".export*tmp"))
    resumed = rank_forker.start("exporting", resume=True, checkpoint__export="true")
    resumed.ended()
    assert resumed.codes == {0: 0, 1: 0}, resumed.text()
    assert (resumed.run.export / "config.json").is_file()
    assert not resumed.run.requeue.exists()
    seen("rc 0, marker, no half export; the resumed run exported and removed the marker")


@pytest.mark.fault(17, "SIGTERM to both ranks during tear-down", "finished, rc 0, no marker", long=True)
def test_a_signal_during_tear_down_does_not_spoil_a_finished_run(rank_forker, seen):
    holds = [{"rank": rank, "stage": "leaving", "step": 12, "do": "hold"} for rank in (0, 1)]
    ranks = rank_forker.start("leaving", *holds)
    ranks.wait_until_reached(0)
    ranks.wait_until_reached(1)
    for pid in ranks.pids:
        os.kill(pid, signal.SIGTERM)
    ranks.release(0)
    ranks.release(1)
    ranks.ended()
    assert ranks.codes == {0: 0, 1: 0}
    assert not ranks.run.requeue.exists()
    assert steps_present(ranks.run)[-1] == 12
    seen("rc 0 on both, all 12 steps saved")


def start_command(training_setup, name: str, *launcher: str) -> tuple["subprocess.Popen[bytes]", RunDir, Path]:
    """The training as users start it, in a session of its own, its output in a file."""
    log = training_setup.root / f"{name}.log"
    words = [*launcher, "train/finetune.py", *training_setup.arguments(name, **ENDLESS)]
    with log.open("wb") as file:
        process = subprocess.Popen(words, cwd=ROOT, stdout=file, stderr=file, start_new_session=True)
    return process, RunDir(training_setup.root / "runs" / name), log


def catches(pid: int, number: int) -> bool:
    """Whether the process has a handler for the signal."""
    mask = re.search(r"SigCgt:\s*(\w+)", Path(f"/proc/{pid}/status").read_text())
    return bool(mask and int(mask[1], 16) >> (number - 1) & 1)


@pytest.mark.fault(17, "SIGTERM while torch is imported", "no step, marker, rc 0", long=True)
def test_a_signal_during_the_imports_is_remembered(training_setup, seen, until):
    process, run, log = start_command(training_setup, "importing", sys.executable)
    until(lambda: catches(process.pid, signal.SIGTERM), "no handler")
    assert "libtorch" not in Path(f"/proc/{process.pid}/maps").read_text(), "handlers stand before torch is loaded"
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0, log.read_text()
    assert run.requeue.is_file()
    assert not run.metrics.exists()
    seen("remembered through the import; rc 0, marker, the model was not loaded")


TORCHRUN = [str(Path(sys.executable).with_name("torchrun")), "--nproc_per_node", "2", "--master_port"]


def launcher_cells():
    killed = "ranks save, marker, rc 0, nothing left"
    for row, who, number in (
        (15, "deepspeed", signal.SIGTERM),
        (15, "launch.py", signal.SIGTERM),
        (16, "launch.py", signal.SIGUSR1),
        (16, "deepspeed", signal.SIGUSR2),
        (16, "deepspeed", signal.SIGKILL),
        (16, "launch.py", signal.SIGKILL),
        (16, "torchrun", signal.SIGUSR1),
        (15, "torchrun", signal.SIGTERM),
    ):
        mark = pytest.mark.fault(
            row, f"{number.name} to {who}", killed, long=(who, number.name) != ("deepspeed", "SIGTERM")
        )
        yield pytest.param(who, number, marks=mark, id=f"{who}-{number.name}")


@pytest.mark.parametrize(("who", "number"), list(launcher_cells()))
def test_a_signal_to_the_launcher_saves_and_leaves_nothing(training_setup, deepspeed, seen, tools, who, number):
    until, session_members, free_port = tools
    launcher = [*TORCHRUN, str(free_port())] if who == "torchrun" else deepspeed()
    name = f"{who.replace('.', '-')}-{number.name}"
    process, run, log = start_command(training_setup, name, *launcher)
    until(lambda: run.metrics.exists() and '"step": 2' in run.metrics.read_text(), "no step 2")
    target = process.pid
    if who == "launch.py":
        target = next(pid for pid in session_members({process.pid}) if b"launcher.launch" in command_line(pid))
    os.kill(target, number)
    code = process.wait(60)
    config = str(training_setup.config_file(name)).encode()
    until(lambda: not trainings(config), f"ranks are left behind\n{log.read_text()[-2000:]}")
    until(lambda: not session_members({process.pid}), "processes are left behind")
    assert run.requeue.is_file(), log.read_text()[-3000:]
    step = newest_checkpoint(run)[0].step
    assert steps_present(run) == [step]
    assert step == int(re.findall(r'"step": (\d+)', run.metrics.read_text())[-1])
    assert "stopped by a signal after step" in log.read_text()
    assert "Traceback" not in log.read_text() or who == "torchrun", "torchrun prints its own"
    seen(f"command rc {code}; ranks saved at step {step}, marker, nobody left")


@pytest.fixture
def tools(until, session_members, free_port):
    return until, session_members, free_port


def trainings(config: bytes) -> list[int]:
    """Processes that train by this config: `torchrun` gives each rank a session of its own."""
    numbers = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return [pid for pid in numbers if config in command_line(pid)]


def command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


@pytest.mark.fault(16, "the reader of the output goes away, then SIGTERM", SAVED, long=True)
def test_a_run_outlives_the_reader_of_its_output(training_setup, seen, until):
    words = [sys.executable, "-u", "train/finetune.py", *training_setup.arguments("unread", **ENDLESS)]
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    run = RunDir(training_setup.root / "runs" / "unread")
    until(lambda: run.metrics.exists() and '"step": 2' in run.metrics.read_text(), "no step 2")
    process.stdout.close()
    before = run.metrics.read_text().count("\n")
    until(lambda: run.metrics.read_text().count("\n") > before + 50, "no more steps")  # it prints every 20
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    assert run.requeue.is_file()
    seen(f"trained on and saved at step {newest_checkpoint(run)[0].step}, rc 0")
