"""Runs a sweep on this machine, one run after the other: build what is missing, train, evaluate.

Finished trainings and evaluations are skipped and interrupted ones resumed. A run that fails does not end the sweep.
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from launch import commands
from launch.chain import write_configs
from launch.preflight import evaluation_sources, missing_shards
from launch.steps import run_command
from launch.sweep_plan import Sweep, SweepRun
from launch.sweep_state import has_diverged, is_evaluated, is_trained
from launch.training import find_launcher

DIVERGED = 3  # exit code of a training that the loss-spike monitor stopped


def run_local(sweep: Sweep, ranks: int | None) -> list[str]:
    """Run what is left of the sweep; returns a line for each run that failed. Raises as `find_launcher`."""
    failed = []
    for number, one in enumerate(sweep.runs, 1):
        print(f"\n[{number}/{len(sweep.runs)}] {one.config.name}", flush=True)
        left = list(_commands(one, ranks))
        if not left:
            print("finished before; nothing to do" if is_trained(one) else "diverged before; left as it is", flush=True)
        for what, argv in left:
            code = run_command(argv)
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
    folder = write_configs(one.config, one.evaluations)
    sources = one.config.train.sources + one.config.train.heldout
    trained = is_trained(one)
    if not trained:
        if has_diverged(one):
            return
        yield from _build(folder.config("run"), missing_shards(one.config.data, sources))
        training = commands.finetune_local(find_launcher(), folder.config("run"), ranks=ranks)
        yield "training", training
    for evaluation in one.evaluations:
        if not trained or not is_evaluated(one, evaluation):
            settings = folder.config(f"eval.{evaluation.name}")
            yield from _build(settings, missing_shards(evaluation.data, evaluation_sources(evaluation)))
            yield f"evaluation {evaluation.name}", commands.evaluate(sys.executable, settings)


def _build(config: Path, missing: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    if missing:
        yield "data", commands.data_prep(sys.executable, config, missing)
