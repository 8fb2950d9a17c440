"""Processes on one machine."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from configs.errors import DataError
from data_prep.processes import ProcessExit, Send, WorkerProcesses, parallel_map

ROOT = Path(__file__).resolve().parents[2]

WAITING = """
import time
from data_prep.processes import WorkerProcesses, parallel_map

def wait(number, send=None):
    import os
    os.write(1, b"%d\\n" % os.getpid())  # in one piece: the processes share the pipe
    time.sleep(600)

{start}
"""
STARTS = {
    "pool": "list(parallel_map(wait, [0, 1], 2))",
    "workers": "with WorkerProcesses(wait, [0, 1], 'fork') as workers: list(workers.messages())",
}


def is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("form", STARTS)
def test_processes_end_with_a_program_that_is_killed(form):
    code = WAITING.format(start=STARTS[form])
    program = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    children = [int(program.stdout.readline()) for _ in range(2)]
    program.kill()
    program.communicate()
    while any(map(is_running, children)):  # a test that hangs here has found a process that lives on
        time.sleep(0.05)


def test_a_pool_gives_results_in_order_and_says_that_a_process_was_killed():
    assert list(parallel_map(lambda number: number**2, range(7), 3)) == [0, 1, 4, 9, 16, 25, 36]
    with pytest.raises(DataError, match="was killed"):
        list(parallel_map(lambda _: os.kill(os.getpid(), signal.SIGKILL), [0, 1], 2))


def tell(number: int, send: Send) -> None:
    send(f"task {number}")
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_messages_arrive_and_the_end_of_every_process_is_reported(method):
    with WorkerProcesses(tell, [0, 1], method) as workers:
        messages = list(workers.messages())
    assert [message for number, message in messages if number == 0] == ["task 0", ProcessExit(0)]
    assert [message for number, message in messages if number == 1] == ["task 1", ProcessExit(-9)]


def tell_handler(number: int, send: Send) -> None:
    send(signal.getsignal(signal.SIGINT) == signal.SIG_IGN)


def test_ctrl_c_is_left_to_the_program_that_started_the_processes():
    before = signal.getsignal(signal.SIGINT)
    with WorkerProcesses(tell_handler, [0], "fork") as workers:
        assert next(message for _, message in workers.messages()) is True
    assert list(parallel_map(lambda _: signal.getsignal(signal.SIGINT) == signal.SIG_DFL, [0, 1], 2)) == [True, True]
    assert signal.getsignal(signal.SIGINT) == before
