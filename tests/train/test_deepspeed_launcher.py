"""The launcher of trainings started by our programs ends after its ranks, without a traceback."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from launch import training
from train.supervision.launcher_watch import is_launcher

RUNNER = """
import subprocess, sys
import psutil

def main():
    ranks = "trap 'sleep 0.1; echo saved; exit 0' INT TERM; echo began; while :; do sleep 0.02; done"
    code = subprocess.Popen(["sh", "-c", "exit 7" if "--fail" in sys.argv else ranks]).wait()
    sys.exit(code)
"""


@pytest.fixture
def start(tmp_path: Path):
    """Starts the launcher in its own process group, with a DeepSpeed that starts a shell as its ranks."""
    package = tmp_path / "deepspeed" / "launcher"
    package.mkdir(parents=True)
    for file, text in (("../__init__.py", ""), ("__init__.py", ""), ("runner.py", RUNNER)):
        (package / file).write_text(text)

    def started(*words: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, str(training.LAUNCHER), *words],
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    return started


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_launcher_after_its_ranks_have_saved_without_a_traceback(start, number):
    process = start()
    assert process.stdout.readline() == "began\n"
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal does on Ctrl-C
    else:
        process.send_signal(number)
    assert process.communicate() == ("saved\n", "")
    assert process.returncode == 128 + number


def test_the_exit_code_of_ranks_that_fail_is_that_of_the_launcher(start):
    assert start("--fail").wait() == 7


def test_programs_start_the_installed_deepspeed_by_this_launcher_which_ranks_watch():
    installed = str(Path(sys.executable).with_name("deepspeed"))
    words = training.waiting_for_ranks([installed, "--quiet", "train/finetune.py"])
    assert words == [sys.executable, str(training.LAUNCHER), "--quiet", "train/finetune.py"]
    assert is_launcher(words)
    assert training.waiting_for_ranks(["/other/deepspeed", "a.py"]) == ["/other/deepspeed", "a.py"]
