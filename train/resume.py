"""Where a run starts: a new folder, or a checkpoint that belongs to this data, this base and these settings.

World size, micro-batch, workers, paths and cadences may change between the two; what changes the result is refused
with the difference, unless it is named as intended. All ranks decide together: a checkpoint that one of them cannot
read, or reads differently, is taken by none.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from configs.errors import RunError
from configs.load import to_yaml
from configs.recipe import recipe_names, recipe_record
from configs.run_dir import RunDir
from configs.section import field_defaults, result_fields
from data_prep.atomic import write_bytes
from data_prep.run_start import (
    OF_THE_MACHINE,
    State,
    another_run,
    contains_run,
    differences,
    lock_run,
    newest_state,
    used_folder,
)
from train.checkpoints.agreement import agreed_checkpoint
from train.checkpoints.reading import Checkpoint, no_complete_checkpoint, steps_present
from train.checkpoints.writing import CheckpointWriter, check_writable, cleanup_partial
from train.data.classification_questions import classification_questions, trained_class_names
from train.distributed.world import all_gather_objects, run_on_main
from train.loggers.jsonl import read_records
from train.plan import RunPlan


@dataclass(frozen=True)
class ResumePoint:
    """Step 0 (`checkpoint` is None) or a checkpoint; `problems` are damaged checkpoints that were skipped."""

    identity: dict[str, Any]
    checkpoint: Checkpoint | None
    problems: list[str]

    @property
    def step(self) -> int:
        """Optimizer steps already done."""
        return self.checkpoint.step if self.checkpoint else 0


def run_identity(plan: RunPlan) -> dict[str, Any]:
    """Data, base model and settings that a checkpoint of this run belongs to, and its recipe."""
    settings = json.loads(json.dumps(result_fields(plan.config))) | {"model.kernels": plan.kernels.name}
    if plan.config.loss.reduction == "micro_batch":  # the mean of means depends on who shares a micro-batch
        settings |= {"train.micro_batch": plan.batches.micro_batch, "world_size": plan.batches.world}
    if plan.config.train.shares and plan.config.train.share_of != "samples":  # they depend on how tokens are counted
        settings |= {"train.shares in entries": plan.order.mixture.source_sizes()}
    if plan.config.train.batching == "llava_groups":  # the order depends on how a batch is cut, not on who runs what
        settings |= {"train.micro_batch": plan.batches.micro_batch}
    probe = None if plan.probe_classes is None else {"classes": list(plan.probe_classes.names)}
    return {
        "base_identity": plan.identity,
        "data": plan.sources.fingerprints(),
        "settings": settings,
        "recipe": recipe_record(plan.config),
        **({"probe": probe} if probe else {}),
        "wandb_id": hashlib.sha256(f"{plan.run.root.resolve()} {plan.identity}".encode()).hexdigest()[:12],
    }


def open_run(plan: RunPlan, *, resume: bool, accepted: Sequence[str] = ()) -> ResumePoint:
    """Decide where to start. Collective: every rank calls it, after the ranks have met.

    Raises `RunError`, the same on every rank, if the folder is not empty without `resume`, if it cannot be written to,
    if checkpoints are there (or were) but none is complete, or if the checkpoint belongs to something else.
    """
    run, identity = plan.run, run_identity(plan)
    if any(all_gather_objects(contains_run(run))) and not resume:
        raise used_folder(run)
    run_on_main(lambda: _prepare(run))
    present = {step for theirs in all_gather_objects(steps_present(run)) for step in theirs}
    checkpoint, problems = agreed_checkpoint(run, sorted(present, reverse=True))
    if problems and not checkpoint:
        raise no_complete_checkpoint(run, problems)
    if checkpoint is None:
        run_on_main(lambda: _refuse_if_lost(run))
        return ResumePoint(identity, None, problems)
    _refuse_another_run(plan, identity, (checkpoint.folder, checkpoint.state), accepted)
    return ResumePoint(identity, checkpoint, problems)


def check_start(plan: RunPlan, *, resume: bool, accepted: Sequence[str] = ()) -> None:
    """Raise `RunError` where `open_run` would, for a dry run: on any machine, without ranks and checksums."""
    run = plan.run
    if not resume and contains_run(run):
        raise used_folder(run)
    if (found := newest_state(run)) is not None:
        _refuse_another_run(plan, run_identity(plan), found, accepted, OF_THE_MACHINE)
    elif present := steps_present(run):
        raise no_complete_checkpoint(run, [f"steps {', '.join(map(str, present))} have no manifest"])
    else:
        _refuse_if_lost(run)


def _refuse_another_run(
    plan: RunPlan,
    identity: dict[str, Any],
    found: tuple[Path, State],
    accepted: Sequence[str],
    ignored: Sequence[str] = (),
) -> None:
    """Raise `RunError` where a checkpoint, its folder and state, belongs to something else and that is not accepted."""
    folder, saved = found
    changed = differences(saved, identity, field_defaults(plan.config), ignored)
    if "model.kernels" in changed:
        changed["model.kernels"] += f" ({plan.kernels.reason})"
    refused = {key: text for key, text in changed.items() if key not in accepted}
    if refused:
        options = " ".join(f"--accept-change {key}" for key in refused)
        raise another_run(folder, refused, f"Undo the change, choose another name, or name it as intended: {options}")
    _refuse_another_probe(folder, saved, identity)
    _refuse_other_frozen_weights(folder, saved, identity)


def _refuse_another_probe(folder: Path, state: State, identity: dict[str, Any]) -> None:
    """Raise `RunError` where a linear probe is new, gone, or of other classes: the checkpoint lacks its weights."""
    saved, now = (list((of.get("probe") or {"classes": ()})["classes"]) for of in (state, identity))
    if saved == now:
        return
    before, after = (
        f"a linear probe of {len(names):,} classes" if names else "no linear probe" for names in (saved, now)
    )
    raise RunError(
        f"{folder} has {before} (loss.probe), and this run {after}{', others' if before == after else ''}; "
        "undo the change, or choose another name"
    )


def _refuse_other_frozen_weights(folder: Path, state: State, identity: dict[str, Any]) -> None:
    """Raise `RunError` where PiSSA was switched on or off: the weights below its adapters are not those of the base."""
    before, after = (of["settings"].get("model.lora.variant", "lora") for of in (state, identity))
    if identity["settings"]["model.mode"] == "lora" and before != after and "pissa" in (before, after):
        raise RunError(
            f"{folder} was trained with model.lora.variant {before}, whose frozen weights are not those of "
            f"{after}; undo the change, or choose another name"
        )


def refuse_other_parameters(checkpoint: Checkpoint, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise `RunError` where the parameters that train are not those in `checkpoint`, as after an accepted change.

    `shapes` maps the names of those that train to their shapes.
    """
    saved = checkpoint.shapes()
    differing = [name for name in (*saved, *shapes) if saved.get(name) != shapes.get(name)]
    if not differing:
        return
    before, after = (of.get(differing[0], "not trained") for of in (saved, shapes))
    raise RunError(
        f"{checkpoint.folder} has {len(saved):,} trained parameters, and this run trains {len(shapes):,}, others: "
        f"{differing[0]} {before} -> {after}. No accepted change makes them fit: undo the change of model.mode, "
        "model.lora, model.selective or optim.lr_*, or choose another name"
    )


def _prepare(run: RunDir) -> None:
    """Make the folder ready."""
    check_writable(run)
    lock_run(run)
    cleanup_partial(run)


def _refuse_if_lost(run: RunDir) -> None:
    """Raise `RunError` where step 0 would be wrong although there is no checkpoint: the run once had one."""
    for event in reversed(read_records(run.events)):
        if event["kind"] == "checkpoint":
            raise RunError(
                f"{run.events} records a checkpoint of step {event['step']}, but {run.checkpoints} has none; restore "
                f"it, or remove {run.root} to start over"
            )


def require_disk_space(writer: CheckpointWriter, size: int) -> None:
    """Raise `RunError` if one checkpoint of `size` bytes does not fit on the disk."""
    try:
        writer.require_disk_space(size)
    except OSError as error:
        text = (
            f"no disk space for a checkpoint in {writer.run.checkpoints}: {error.strerror}; free some, or set runs_dir"
        )
        raise RunError(text) from error


def write_run_files(plan: RunPlan, start: ResumePoint) -> None:
    """Write the resolved config and the identity into the run folder, and delete the requeue marker.

    Stored with the identity is what an evaluation takes from training (`configs.trained`): question and classes.
    """
    plan.run.root.mkdir(parents=True, exist_ok=True)
    plan.run.requeue.unlink(missing_ok=True)
    shipped = plan.config.recipe in recipe_names()  # a recipe file may not be there when the run is read
    config = plan.config if shipped else replace(plan.config, recipe=None)
    write_bytes(plan.run.config, to_yaml(config).encode())
    questions = classification_questions(plan.sources)
    asked = {"questions": questions, "class_names": trained_class_names(plan.sources, questions)}
    write_bytes(plan.run.identity, json.dumps(start.identity | asked, indent=1, ensure_ascii=False).encode())
