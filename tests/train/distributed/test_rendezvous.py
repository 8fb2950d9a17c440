"""Ranks that wait for others say for whom and where, heed signals, and name what is wrong; with real processes."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from configs.errors import ConfigError
from train.distributed.rendezvous import rank_and_size, rendezvous_of
from train.distributed.world import start_world, world_size_of_environment

RANK = Path(__file__).with_name("waiting_rank.py")
LAUNCH_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "SLURM_STEP_ID")


@pytest.fixture
def start(free_port: Callable[[], int]) -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Starts a rank of `size`; all of one test share a port. Whatever still runs at the end is killed."""
    port, started = str(free_port()), []

    def rank(number: int, size: int, timeout: float = 300, **variables: str) -> "subprocess.Popen[str]":
        inherited = {name: value for name, value in os.environ.items() if name not in LAUNCH_VARIABLES}
        given = {"RANK": str(number), "WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        process = subprocess.Popen(
            [sys.executable, str(RANK), str(timeout)], env={**inherited, **given, **variables}, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        started.append(process)
        return process

    rank.port = port
    yield rank
    for process in started:
        process.kill()
        process.communicate()


def line_of(process: "subprocess.Popen[str]", words: str) -> str:
    """The first line that the process prints with `words` in it; waits for it."""
    seen = []
    for line in process.stdout:
        seen.append(line)
        if words in line:
            return line
    raise AssertionError("".join(seen))


@pytest.mark.slow
def test_rank_0_says_whom_it_waits_for_and_where_until_all_have_come(start):
    first = start(0, 3)
    assert "rank 0 of 3 has waited" in (line := line_of(first, "ranks 1, 2 to come"))
    assert f"at 127.0.0.1:{start.port}" in line
    assert "RANK and WORLD_SIZE are left over in this environment: unset them" in line
    second = start(1, 3)
    assert "rank 0 of 3" in line_of(first, "for rank 2 to come")
    third = start(2, 3)
    for process in (first, second, third):
        assert line_of(process, "met")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_wait_on_every_rank_that_had_come(start, number):
    first, second = start(0, 3), start(1, 3)
    line_of(first, "for rank 2 to come")
    second.send_signal(number)
    assert "stopped, waited for the other ranks" in line_of(second, "stopped")
    assert "stopped, waited for rank 2 to come" in line_of(first, "stopped")
    assert [process.wait(timeout=300) for process in (first, second)] == [0, 0]


@pytest.mark.slow
def test_a_rank_without_rank_0_names_it_and_heeds_signals(start):
    alone = start(1, 2, SLURM_STEP_ID="0")
    line = line_of(alone, "has waited")
    assert f"rank 0 at 127.0.0.1:{start.port} (Connection refused)" in line
    assert "if this is a shell opened by srun" in line
    alone.send_signal(signal.SIGTERM)
    assert "stopped, waited for rank 0" in line_of(alone, "stopped")
    assert alone.wait(timeout=300) == 0


@pytest.mark.slow
def test_the_wait_ends_after_its_timeout_with_the_missing_rank(start):
    first = start(0, 2, timeout=0.5)
    assert "for rank 1 to come" in line_of(first, "error: rank 0 of 2 waited")
    assert first.wait(timeout=300) == 2


@pytest.mark.slow
def test_a_taken_port_is_one_line_that_names_the_option(start):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", int(start.port)))
        taken.listen()
        assert "is in use, by another training perhaps; choose another one: deepspeed --master_port N" in line_of(
            start(0, 2), "error"
        )


@pytest.mark.parametrize(
    ("variables", "complaint"),
    [
        ({"RANK": "1"}, "RANK is set to '1' and WORLD_SIZE is not; unset RANK"),
        ({"WORLD_SIZE": "8"}, "WORLD_SIZE is set to '8' and RANK is not; unset WORLD_SIZE"),
        ({"RANK": "8", "WORLD_SIZE": "8"}, "RANK is 8 with WORLD_SIZE 8; it must be less"),
        ({"RANK": "one", "WORLD_SIZE": "8"}, "RANK is 'one', which is no number"),
        ({"RANK": "0", "WORLD_SIZE": "-1"}, "WORLD_SIZE is '-1', which is no number"),
        ({"RANK": "0", "WORLD_SIZE": "2"}, "WORLD_SIZE 2 without MASTER_ADDR and MASTER_PORT; unset both"),
        ({"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "a"}, "without MASTER_PORT"),
        ({"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "0"}, "MASTER_PORT is '0'"),
    ],
)
def test_variables_that_do_not_make_a_rank_are_named(variables, complaint):
    with pytest.raises(ConfigError, match=complaint):
        rendezvous_of(variables, slurm=False)


def test_without_variables_there_is_one_rank(monkeypatch):
    assert rank_and_size({}) == rank_and_size({"RANK": "", "WORLD_SIZE": ""}) == (0, 1)
    assert world_size_of_environment({}) == 1
    monkeypatch.setenv("WORLD_SIZE", "8")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(ConfigError, match="RANK is not"):
        start_world()
