"""How far the runs of a sweep are, and what they measured: from their files, without starting anything."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from configs.batch_plan import StepCounts
from configs.errors import ConfigError, UserError
from configs.eval_dir import EvalDir
from configs.evaluation import EvalConfig
from configs.load import load_config, to_yaml
from configs.run import RunConfig
from configs.run_dir import ExportDir, RunDir, SlurmDir, step_name
from configs.section import result_fields
from data_prep.manifest import read_manifest
from data_prep.provenance import FINISHED, read_starts
from launch.preflight import missing_shards
from launch.run_state import run_state
from launch.sweep_plan import SweepRun
from launch.watch import tail

HELD_OUT = "held-out loss"
"""What is compared where a sweep has no evaluation."""
DIVERGED = "stopped by the monitor"


def is_trained(one: SweepRun) -> bool:
    """Whether the training has finished, with its export. Raises `ConfigError` if the folder has another run."""
    check_same_run(one)
    return _has_finished(one.run) and (ExportDir(one.run.export).record.is_file() or not one.config.checkpoint.export)


def _has_finished(run: RunDir) -> bool:
    starts = read_starts(run.provenance)
    return bool(starts) and starts[-1].get("outcome") == FINISHED and not run.requeue.exists()


def has_diverged(one: SweepRun) -> bool:
    """Whether the loss-spike monitor ended the training, which another start would repeat."""
    starts = read_starts(one.run.provenance)
    return bool(starts) and starts[-1].get("outcome") == DIVERGED


def check_same_run(one: SweepRun) -> None:
    """Raise `ConfigError` if the run's folder was begun with other settings than those of the sweep."""
    if not one.run.config.is_file():
        return
    try:
        before = _saved_fields(one.run.config, one.run.config.stat().st_mtime_ns)
    except UserError as error:
        raise ConfigError(
            f"{one.run.config} cannot be read ({error}); delete {one.run.root}, or use another name"
        ) from error
    now = _fields(one.config)
    if differing := sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key)):
        key = differing[0]
        raise ConfigError(
            f"{one.run.root} was trained with {key} {before.get(key)!r}, not {now.get(key)!r}; begin other names with "
            "--set name=…, or delete the folder"
        )


@cache
def _saved_fields(file: Path, changed: int) -> dict[str, Any]:  # noqa: ARG001 (a changed file is read again)
    return _fields(load_config(RunConfig, file)[0])


def _fields(config: RunConfig) -> dict[str, Any]:
    """What must agree for a run to be the same: the settings that change the result, and the base model."""
    return result_fields(config) | {"model.base": config.model.base}


def is_evaluated(one: SweepRun, evaluation: EvalConfig) -> bool:
    """Whether the report is complete, newer than the model, and of the evaluation as it is now."""
    folder = result_folder(one.run, evaluation)
    report = _read(folder.report("json")) if folder else None
    if folder is None or report is None or (report.get("items") or {}).get("missing"):
        return False
    written, config = folder.report("json").stat().st_mtime, SlurmDir(one.run.slurm).config(f"eval.{evaluation.name}")
    if config.is_file() and config.read_text(encoding="utf-8") != to_yaml(evaluation):
        return False  # it was evaluated as the file was before
    inputs = [config, ExportDir(one.run.export).record]
    return all(not file.is_file() or file.stat().st_mtime <= written for file in inputs)


def result_folder(run: RunDir, evaluation: EvalConfig) -> EvalDir | None:
    """The folder of the evaluated checkpoint; None before there is one."""
    if evaluation.checkpoint == "export":
        return EvalDir(run.evaluation(evaluation.name) / "export")
    steps = run.steps()
    if not steps:
        return None
    step = steps[-1] if evaluation.checkpoint == "last" else int(evaluation.checkpoint)
    return EvalDir(run.evaluation(evaluation.name) / step_name(step))


@dataclass(frozen=True)
class Measured:
    """A number of a run: `value`, of `n` items (None: a loss), what is `doubtful` about it, and the page it is on."""

    value: float
    n: int | None
    doubtful: str = ""
    report: str = ""


def measurements(one: SweepRun) -> dict[str, Measured]:
    """What the run measured so far, by evaluation; without evaluations, the held-out loss at its end."""
    if not one.evaluations:
        found = _held_out(one.run)
        return {} if found is None else {HELD_OUT: Measured(found, None)}
    measured = {}
    for evaluation in one.evaluations:
        folder = result_folder(one.run, evaluation)
        report = _read(folder.report("json")) if folder else None
        rate = (report or {}).get("accuracy") or {}
        if folder and report and rate.get("n") and is_evaluated(one, evaluation):
            measured[evaluation.name] = Measured(
                rate["value"], rate["n"], "; ".join(_doubts(report)), str(folder.report("html"))
            )
    return measured


def _doubts(report: Mapping[str, Any]) -> Iterator[str]:
    if failed := (report.get("items") or {}).get("failed"):
        yield f"{failed:,} items failed"
    if (report.get("trained") or {}).get("differences"):
        yield "not evaluated as trained"


def _held_out(run: RunDir) -> float | None:
    """The mean over the sources of the last held-out losses; None before the run's end, or if one is not finite."""
    if not _has_finished(run):
        return None  # losses after different numbers of steps are not comparable
    losses = [record["heldout_loss"] for record in tail(run.metrics)[0] if record.get("heldout_loss")]
    last = list(losses[-1].values()) if losses else []
    usable = all(isinstance(loss, int | float) and math.isfinite(loss) for loss in last)
    return sum(last) / len(last) if last and usable else None


def state_of(one: SweepRun) -> str:
    """One word or two: `trained`, `diverged`, `not started`, or what `launch.watch` says of the run."""
    if is_trained(one):
        return "trained"
    if has_diverged(one):
        return "diverged"
    found = run_state(one.run, *(tail(file)[0] for file in (one.run.metrics, one.run.events)))
    return "not started" if found is None else found.word


def steps_of(config: RunConfig) -> int | None:
    """Optimizer steps of a run, from its shards' manifests; None where shards are missing.

    Samples that the training leaves out (no target, no image) are counted, so it may be slightly too high.
    """
    if missing_shards(config.data, config.train.sources):
        return None
    try:
        counts = {name: read_manifest(Path(config.data.shards) / name).samples for name in config.train.sources}
        passes = config.train.passes_per_epoch
        samples = sum(round(count * passes.get(name, 1.0)) for name, count in counts.items())
        return StepCounts.of(samples, config.train).total_steps
    except (UserError, OSError):
        return None


def _read(file: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        return found if isinstance(found, dict) else None
    except (OSError, ValueError):
        return None
