"""A supervised run from its first step to its export: hanging and dead ranks are named, a stopped run is marked."""

import contextlib
import os
import socket
import sys
from collections import Counter
from collections.abc import Iterator

import torch
from safetensors import SafetensorError

from configs.errors import DataError, RunError, UserError
from data_prep.provenance import FINISHED, StartLog
from train.checkpoints.reading import open_checkpoint
from train.distributed.rendezvous import WaitStopped, rank_and_size
from train.distributed.world import World, all_gather_objects, run_on_main, start_world, stop_world
from train.exported_model import export_checkpoint
from train.loggers.jsonl import iter_records
from train.loggers.types import make_event
from train.models.export_choice import evaluation_choice
from train.plan import RunPlan
from train.spikes.outcome import losses_above_start, trained_anything
from train.spikes.policy import EXIT_CODE
from train.supervision import signals
from train.supervision.watchdog import Watchdog
from train.trainer import Trainer


def join_world(plan: RunPlan) -> World | None:
    """Meet the other ranks; None if one was asked to stop before all had come.

    The run is then marked for requeueing.
    """
    try:
        return start_world(plan.config.train.step_timeout, signals.stop_requested)
    except WaitStopped as stopped:
        signals.ignore()
        rank = rank_and_size(os.environ)[0]
        if rank == 0:
            _mark_unstarted(plan)
        print(f"rank {rank} stopped by a signal while it waited for {stopped}; nothing was trained", flush=True)
        return None


def stopped_before_start(plan: RunPlan, world: World) -> bool:
    """True if a rank received a stop request during startup; the run is then marked for requeueing. Collective."""
    requested = world.all_max(float(signals.stop_requested())) > 0
    if requested:
        signals.ignore()
        stop_world()
        if world.is_main_process:
            _mark_unstarted(plan)
            print("stopped by a signal before the first step; --resume auto starts again", flush=True)
    return requested


@contextlib.contextmanager
def recorded_start(plan: RunPlan, world: World, first_step: int) -> Iterator[None]:
    """The block is a start of the run in its provenance.json, with the machines of all ranks. Collective at its begin.

    A killed process, or one that a hang ends, leaves a start without an end.
    """
    gpu = torch.cuda.get_device_name(world.device) if world.device.type == "cuda" else None
    machines = all_gather_objects((socket.gethostname(), gpu))
    if not world.is_main_process:
        yield
        return
    log = StartLog(plan.run.provenance)
    about = {
        "world_size": world.size,
        "hosts": dict(Counter(host for host, _ in machines)),
        "gpus": [name for _, name in machines if name is not None],
        "data": plan.sources.fingerprints() | plan.heldout.fingerprints(),
        "base_identity": plan.identity,
        "first_step": first_step,
        "slurm_job": os.environ.get("SLURM_JOB_ID"),
    }
    log.begin(**about)
    outcome = FINISHED
    try:
        yield
        if plan.run.requeue.exists():
            outcome = "stopped by a signal"
    except SystemExit:
        outcome = "stopped by the monitor"
        raise
    except Exception as error:
        outcome = f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
        raise
    finally:
        log.end(outcome)


def _mark_unstarted(plan: RunPlan) -> None:
    plan.run.root.mkdir(parents=True, exist_ok=True)
    plan.run.requeue.touch()


def run_supervised(trainer: Trainer, world: World) -> int:
    """`trainer.run()` with heartbeats and a watchdog; returns the number of steps done.

    An unexpected error ends the process immediately: an orderly shutdown would wait for ranks that no longer run.
    """

    def log(kind: str, message: str) -> None:
        if kind == "silent":
            with contextlib.suppress(OSError):
                print(f"rank {world.rank}: {message}", file=sys.stderr, flush=True)
        for logger in trainer.components.loggers[:1]:  # the JSONL files: the only logger that any thread may use
            logger.log_event(make_event(trainer.progress.position.step, kind, message))

    heartbeats = trainer.heartbeats
    heartbeats.report = lambda message: log("silent", message)
    heartbeats.join(trainer.progress)
    timeout = trainer.plan.config.train.step_timeout
    checkpointer = trainer.components.checkpointer
    watchdog = Watchdog(
        trainer.plan.run, heartbeats, trainer.progress, timeout, log, is_saving=lambda: checkpointer.is_writing
    )
    try:
        with watchdog.watching():
            return trainer.run()
    except DataError as error:  # only the rank that reads a sample can name it
        if not world.is_main_process:  # whose error the entry point prints
            print(f"error: {error}", file=sys.stderr, flush=True)
        raise
    except UserError:
        raise
    except Exception as error:
        watchdog.fail(error)


def finish(trainer: Trainer, world: World, steps: int) -> None:
    """After the last step: leave the process group, then export, or mark an unfinished run for requeueing.

    Exits with `EXIT_CODE` if the monitor stopped the run. Raises `RunError` on all ranks if it is complete and no step
    changed a weight.
    """
    plan, is_main_process = trainer.plan, world.is_main_process
    complete = trainer.is_complete and not trainer.stopped
    if complete:
        run_on_main(lambda: judge_outcome(trainer, steps))
    exports = is_main_process and complete and plan.config.checkpoint.export
    unfinished = not complete and not trainer.stopped
    if is_main_process and unfinished:  # before anything that takes time: after a signal there is little
        plan.run.requeue.touch()
    if not exports:
        signals.ignore()
    trainer.progress.enter("leaving")
    for logger in reversed(trainer.components.loggers):  # the JSONL files last: closing the others may log events
        logger.close()
    stop_world()
    if trainer.stopped:
        if is_main_process:
            message = f"stopped by the monitor after step {steps}: {trainer.stopped}; see {plan.run.events}"
            print(message, file=sys.stderr, flush=True)
        sys.exit(EXIT_CODE)
    if exports:
        _export(trainer)
    elif is_main_process and unfinished:
        print(f"stopped by a signal after step {steps}, everything is saved; --resume auto continues", flush=True)


def judge_outcome(trainer: Trainer, steps: int) -> None:
    """Log losses that end above where they began (main rank). Raises `RunError` if no step changed a weight."""
    plan = trainer.plan
    for message in losses_above_start(iter_records(plan.run.metrics)):
        trainer.reporter.event(steps, "loss_above_start", f"{message}; see {plan.run.metrics} before it is used")
    if not trainer.updated and not trained_anything(iter_records(plan.run.metrics)):
        trainer.reporter.event(steps, "nothing_trained", "no gradient was finite and above zero in any step")
        raise RunError(
            f"nothing was trained: no gradient was finite and above zero in any of {steps} steps, and nothing is "
            f"exported. Look at what the samples teach with `python -m train.tools.inspect`, at model.mode "
            f"{plan.config.model.mode}, and whether the base's weights are finite; then train under another name"
        )


def _export(trainer: Trainer) -> None:
    """Export the last checkpoint, or the best. A stop request interrupts it and marks the run, which exports on resume.

    Raises `RunError` if that checkpoint is damaged, as another one is not what was asked for, or the disk fails.
    """
    plan, step = trainer.plan, trainer.step_to_export
    try:
        with signals.interruptible():
            trainer.progress.enter("export")
            checkpoint, before = open_checkpoint(plan.run, step), evaluation_choice(plan.run.export)
            exported = export_checkpoint(plan.run, checkpoint, plan.run.export)
    except signals.StopRequested:
        signals.ignore()
        plan.run.requeue.touch()
        print("stopped by a signal before the export was done; --resume auto exports", flush=True)
    except (RunError, OSError, SafetensorError) as error:  # safetensors raises its own error for a full disk
        chosen = f" (the best step is {step}; python -m train.export {plan.run.root} --step N exports another)"
        chosen = chosen if step != trainer.position.step else ""
        raise RunError(
            f"nothing was exported to {plan.run.export}: {error}; then continue with --resume auto{chosen}"
        ) from error
    else:
        signals.ignore()
        replaced = f" in place of {before}" if before else ""
        print(f"exported to {exported}{replaced}", flush=True)
