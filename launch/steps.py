"""Programs that start other programs: the commands of each step are printed as one would type them, then run."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

from launch import commands
from launch.training import waiting_for_ranks, with_free_port

Step = Sequence[list[str]]
"""Commands that run at the same time."""
INTERRUPTED = 130  # the exit code of a program that Ctrl-C ended


def run_step(step: Step, what: str) -> None:
    """Run the commands of a step at the same time and print each as one would type it.

    A single command prints as it goes. Of several, each has one thread, and their output appears when all have ended.
    If one fails, the program leaves with its exit code.
    """
    start = time.monotonic()
    if len(step) == 1:
        print(flush=True)
        codes = [run_command(step[0])]
    else:
        with ThreadPoolExecutor(len(step)) as pool:
            ended = list(pool.map(_run_quietly, step))
        for argv, done in zip(step, ended, strict=True):
            print(f"\n$ {typed(argv)}\n{done.stdout}", end="", flush=True)
        codes = [done.returncode for done in ended]
    print(f"[{time.monotonic() - start:.1f} s]", flush=True)
    for code in filter(None, codes):
        print(f"the {what} stops here: this command failed with exit code {code}", file=sys.stderr)
        raise SystemExit(code if code > 0 else 128 - code)


def run_command(argv: list[str]) -> int:
    """Print a command as one would type it, run it to its end and return its exit code.

    A training meets at a free port. A signal to this process ends the command first: Ctrl-C reaches the command as
    well, which then saves: it is waited for. SIGTERM is passed on.
    """
    argv = with_free_port(argv)
    print(f"$ {typed(argv)}", flush=True)
    process = subprocess.Popen(waiting_for_ranks(argv))
    terminated = []

    def pass_on(number: int, frame: object) -> None:  # noqa: ARG001
        terminated.append(number)
        process.send_signal(number)

    before = signal.signal(signal.SIGTERM, pass_on)
    try:
        code = process.wait()
    except KeyboardInterrupt:
        print("interrupted: waiting for the command to save and end", file=sys.stderr, flush=True)
        process.wait()
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
    if terminated:
        raise SystemExit(128 + terminated[0])
    return code


def _run_quietly(argv: list[str]) -> "subprocess.CompletedProcess[str]":
    """Run with one thread; returns with all that was printed."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        argv, check=False, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def typed(argv: Sequence[str]) -> str:
    """The command as one would type it in the activated environment."""
    return commands.as_typed(argv, python=sys.executable, deepspeed=str(Path(sys.executable).with_name("deepspeed")))


def run_steps(planned: Sequence[Step], what: str) -> None:
    """Run all steps of `what`; a line with a progress bar is printed before each. Ctrl-C ends with one line."""
    start = time.monotonic()
    for done, step in enumerate(planned):
        bar = tqdm.format_meter(done, len(planned), time.monotonic() - start, ncols=100, prefix=what, unit="step")
        print(f"\n{bar}", flush=True)
        try:
            run_step(step, what)
        except KeyboardInterrupt:
            print(f"\nthe {what} was interrupted; the same command continues", file=sys.stderr)
            raise SystemExit(INTERRUPTED) from None
