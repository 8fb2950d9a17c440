"""The pure rules of supervision: who lags, who keeps the others waiting, who is a launcher."""

import os
import random
import signal
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from configs.training import TrainConfig
from train.supervision.heartbeats import Heartbeat, stuck_ranks
from train.supervision.launcher_watch import Process, gone_already, is_launcher
from train.supervision.signals import STOP_SIGNALS
from train.supervision.stragglers import AT_ONCE, STEPS, Straggler, Stragglers

ROOT = Path(__file__).resolve().parents[3]


def observe(rule: Stragglers, seconds: list[float], steps: int) -> list[Straggler]:
    return [found for _ in range(steps) for found in rule.observe(seconds, step_s=max(seconds))]


def test_a_straggler_is_reported_once_and_again_after_it_was_normal():
    rule = Stragglers(2.0, 0.0)
    assert observe(rule, [1.0, 1.1, 2.5, 0.9], STEPS - 1) == []
    assert [found.rank for found in observe(rule, [1.0, 1.1, 2.5, 0.9], 20)] == [2]
    assert observe(rule, [1.0] * 4, STEPS) == []
    assert [found.rank for found in observe(rule, [1.0, 1.1, 2.5, 0.9], STEPS)] == [2]


def test_single_slow_steps_of_many_ranks_are_no_stragglers():
    rule = Stragglers(2.0, 0.0)
    for step in range(100):
        seconds = [1.0] * 8
        seconds[step % 8] = 4.0
        assert rule.observe(seconds, step_s=4.0) == []


def test_of_two_ranks_the_slow_one_is_compared_with_the_other_and_not_with_itself():
    assert observe(Stragglers(2.0, 0.0), [1.0, 3.0], STEPS) == [Straggler(1, 3.0, 2.0)]


@pytest.mark.parametrize("ranks", range(2, 9))
def test_each_rank_is_compared_with_the_median_of_the_others(ranks):
    draw = random.Random(ranks)
    for _ in range(20):
        seconds = [draw.choice((0.0, 0.1, 1.0, 30.0, 50.0)) for _ in range(ranks)]
        usual = [statistics.median(seconds[:rank] + seconds[rank + 1 :]) for rank in range(ranks)]
        lost = {rank: own - usual[rank] for rank, own in enumerate(seconds)}
        expected = {rank: seconds for rank, seconds in lost.items() if seconds >= AT_ONCE}
        found = Stragglers(1.0, 0.0).observe(seconds, step_s=50.0)
        assert {straggler.rank: straggler.seconds for straggler in found} == expected


def test_twice_as_long_does_not_matter_where_it_is_a_small_part_of_the_step():
    rule = Stragglers(2.0, 0.0)
    assert [found for _ in range(50) for found in rule.observe([0.01, 0.05], step_s=1.0)] == []


def test_noise_of_hundredths_of_a_second_in_short_steps_is_no_straggler():
    rule = Stragglers(TrainConfig().straggler_factor, TrainConfig().straggler_seconds)
    assert observe(rule, [0.03, 0.06], 50) == []
    assert observe(rule, [0.005, 0.09], 50) == []
    assert observe(rule, [0.1, 0.21], STEPS) == [Straggler(1, pytest.approx(2.1), pytest.approx(0.11))]


def test_a_long_standstill_is_reported_in_its_own_step():
    assert [found.rank for found in observe(Stragglers(2.0, 0.0), [21.0, 0.5], 1)] == [0]
    assert observe(Stragglers(2.0, 0.0), [21.0], 20) == [], "alone, nobody waits"


@pytest.mark.parametrize(
    ("heartbeats", "blamed"),
    [
        ([("before the step", 7, 1), ("data", 7, 1)], [1]),
        ([("sum of losses", 7, 1), ("sum of losses", 7, 1)], []),
        ([("sum of losses", 7, 1), ("sum of losses", 7, 30)], [1]),
        ([("update*", 7, 1), ("update", 7, 1)], [1]),
        ([("report", 7, 1), ("update", 6, 1), ("report", 7, 1)], [1]),
        ([("data", 7, 30), ("sum of losses", 7, 1), ("data", 7, 1)], [0]),
    ],
)
def test_who_keeps_the_others_waiting(heartbeats, blamed):
    made = [
        Heartbeat(rank, step, stage.strip("*"), "*" in stage, age) for rank, (stage, step, age) in enumerate(heartbeats)
    ]
    assert [heartbeat.rank for heartbeat in stuck_ranks(made)] == blamed


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("/venv/bin/python3|/venv/bin/deepspeed|--num_gpus|2|train/finetune.py", True),
        ("/venv/bin/python3|-u|-m|deepspeed.launcher.launch|--world_info=x", True),
        ("/venv/bin/python|/venv/bin/torchrun|--nproc_per_node|2", True),
        ("bash|-c|deepspeed train/finetune.py", False),
        ("python|-m|launch.demo", False),
        ("slurmstepd: [7.0]", False),
    ],
)
def test_launchers_are_known_by_their_command_lines(line, expected):
    assert is_launcher(line.split("|")) is expected


def test_a_process_that_ended_and_waits_to_be_collected_does_not_live():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    process = Process.of(child.pid)
    assert process is not None
    assert process.is_alive
    assert process.parent == os.getpid()
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not process.is_alive
    child.wait()
    assert not process.is_alive


def test_before_the_config_is_read_its_default_signals_are_caught():
    assert TrainConfig.stop_signals == STOP_SIGNALS


SCRIPT = """
import os, signal, sys, time
sys.path.insert(0, ".")
from train.supervision import signals
signals.install()
signals.install(["SIGTERM"])
child = os.fork()
if child == 0:
    os.kill(os.getpid(), signal.SIGTERM)  # left to the rank
    os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
time.sleep(0.2)  # of what arrived in a forked process, nothing may come through the pipe
assert not signals.stop_requested()
os.kill(os.getpid(), signal.SIGTERM)
assert signals.stop_requested() and signals.reason() == "SIGTERM"
try:
    with signals.interruptible():
        print("not reached")
except signals.StopRequested:
    print("interrupted")
os.kill(os.getpid(), signal.SIGUSR1)
print("not reached")
"""


def test_a_signal_taken_out_of_the_list_has_its_usual_effect_again():
    done = subprocess.run([sys.executable, "-c", SCRIPT], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == -signal.SIGUSR1, done.stderr
    assert done.stdout in ("interrupted\n", ""), "killed by the signal, Python may not flush"


LAUNCH = ["python", "-u", "-m", "deepspeed.launcher.launch", "--world_info=e30="]


@pytest.mark.parametrize(
    ("found", "environment", "first", "gone"),
    [
        ([(Process(9, 5, parent=1), LAUNCH)], {"CROSS_RANK": "0"}, ["/sbin/init"], "above process 9"),
        ([], {"CROSS_RANK": "0"}, ["/sbin/init"], "that started this rank"),
        ([(Process(9, 5, parent=8), LAUNCH), (Process(8, 4, parent=1), ["python", "deepspeed"])], {}, ["init"], None),
        ([(Process(9, 5, parent=1), LAUNCH)], {}, ["python", "/usr/bin/deepspeed", "train/finetune.py"], None),
        ([(Process(9, 5, parent=1), [*LAUNCH, "--node_rank=1"])], {}, ["/sbin/init"], None),
        ([(Process(9, 5, parent=1), ["torchrun", "train/finetune.py"])], {}, ["/sbin/init"], None),
        ([], {}, ["/sbin/init"], None),
    ],
    ids=["adopted", "both gone", "complete", "entry point", "one of many nodes", "torchrun", "plain python"],
)
def test_a_launcher_that_was_gone_before_the_rank_looked_is_noticed(found, environment, first, gone):
    assert gone_already(found, environment, first) == gone
