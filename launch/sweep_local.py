"""Runs a sweep on this machine, one run after the other: build what is missing, train, evaluate.

Finished trainings and evaluations are skipped and interrupted ones resumed. A run that fails does not end the sweep.
"""

import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from configs.load import to_yaml
from configs.run_dir import SlurmDir
from data_prep.atomic import write_bytes
from launch import commands
from launch.accelerator import name_accelerator
from launch.preflight import evaluation_sources, missing_shards
from launch.steps import typed
from launch.sweep_plan import Sweep, SweepRun
from launch.sweep_state import has_diverged, is_evaluated, is_trained
from launch.training import find_launcher, with_free_port

DIVERGED = 3  # exit code of a training that the loss-spike monitor stopped


def write_configs(one: SweepRun) -> SlurmDir:
    """Write the resolved configs of a run and its evaluations where they differ from what is there."""
    folder = SlurmDir(one.run.slurm)
    folder.root.mkdir(parents=True, exist_ok=True)
    texts = {"run": to_yaml(one.config)} | {f"eval.{found.name}": to_yaml(found) for found in one.evaluations}
    for name, text in texts.items():
        file = folder.config(name)
        if not file.is_file() or file.read_text(encoding="utf-8") != text:
            write_bytes(file, text.encode())
    return folder


def run_local(sweep: Sweep, ranks: int | None) -> list[str]:
    """Run what is left of the sweep; returns a line for each run that failed. Raises as `find_launcher`."""
    failed = []
    for number, one in enumerate(sweep.runs, 1):
        print(f"\n[{number}/{len(sweep.runs)}] {one.config.name}", flush=True)
        left = list(_commands(one, ranks))
        if not left:
            print("finished before; nothing to do" if is_trained(one) else "diverged before; left as it is", flush=True)
        for what, argv in left:
            code = _run(argv)
            if code == DIVERGED and what == "training":
                print("the loss-spike monitor stopped this training; the sweep continues", flush=True)
                break
            if code:
                failed.append(f"{one.config.name}: {what} failed with exit code {code}")
                break
            if what == "training" and not is_trained(one):  # stopped by a signal, with everything saved
                failed.append(f"{one.config.name}: {what} was stopped before its end")
                return failed
    return failed


def _commands(one: SweepRun, ranks: int | None) -> Iterator[tuple[str, list[str]]]:
    """(what, command) of all that is left to do for a run."""
    folder = write_configs(one)
    sources = one.config.train.sources + one.config.train.heldout
    trained = is_trained(one)
    if not trained:
        if has_diverged(one):
            return
        yield from _build(folder.config("run"), missing_shards(one.config.data, sources))
        training = commands.finetune_local(find_launcher(), folder.config("run"), ranks=ranks)
        yield "training", with_free_port(training)
    for evaluation in one.evaluations:
        if not trained or not is_evaluated(one, evaluation):
            settings = folder.config(f"eval.{evaluation.name}")
            yield from _build(settings, missing_shards(evaluation.data, evaluation_sources(evaluation)))
            yield f"evaluation {evaluation.name}", commands.evaluate(sys.executable, settings)


def _build(config: Path, missing: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    if missing:
        yield "data", commands.data_prep(sys.executable, config, missing)


def _run(argv: list[str]) -> int:
    """Run a command to its end and return its exit code; a signal to this process ends the command first.

    Ctrl-C reaches the command as well, which then saves: it is waited for. SIGTERM is passed on.
    """
    print(f"$ {typed(argv)}", flush=True)
    name_accelerator()
    process = subprocess.Popen(argv)
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
