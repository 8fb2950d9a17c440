"""From a trainer to its end under watch: who hangs or died is named, what was asked for is saved, marked, exported."""

import contextlib
import sys

from safetensors import SafetensorError

from configs.errors import DataError, RunError, UserError
from train.checkpoints.reading import open_checkpoint
from train.distributed.world import World, stop_world
from train.export import export_checkpoint
from train.loggers.metrics_log import make_event
from train.plan import RunPlan
from train.spikes.policy import EXIT_CODE
from train.supervision import signals
from train.supervision.watchdog import Watchdog
from train.trainer import Trainer


def asked_before_start(plan: RunPlan, world: World) -> bool:
    """Whether some rank was asked to stop while it started; then the run is marked as to be continued. Collective."""
    asked = world.all_max(float(signals.stop_requested())) > 0
    if asked:
        signals.ignore()
        stop_world()
        if world.leads:
            plan.run.root.mkdir(parents=True, exist_ok=True)
            plan.run.requeue.touch()
            print("stopped by a signal before the first step; --resume auto starts again", flush=True)
    return asked


def run_under_watch(trainer: Trainer, world: World) -> int:
    """`trainer.run()` with a board and a watchdog; returns the steps done.

    An error that is not the user's to mend ends the process here, as orderly leaving would wait for lost ranks.
    """

    def tell(kind: str, message: str) -> None:
        if kind == "silent":
            with contextlib.suppress(OSError):
                print(f"rank {world.rank}: {message}", file=sys.stderr, flush=True)
        for sink in trainer.parts.sinks[:1]:  # the JSONL files: the only sink that any thread may use
            sink.event(make_event(trainer.progress.place.step, kind, message))

    board = trainer.board
    board.tell = lambda message: tell("silent", message)
    board.join(trainer.progress)
    timeout = trainer.plan.config.train.step_timeout
    saver = trainer.parts.saver
    watchdog = Watchdog(trainer.plan.run, board, trainer.progress, timeout, tell, saves=lambda: saver.under_way)
    try:
        with watchdog.watching():
            return trainer.run()
    except DataError as error:  # in training or held-out data: only the rank that reads a sample can name it
        if not world.leads:  # whose error the entry point prints
            print(f"error: {error}", file=sys.stderr, flush=True)
        raise
    except UserError:
        raise
    except Exception as error:
        watchdog.fail(error)


def end(trainer: Trainer, world: World, steps: int) -> None:
    """What follows the last step: leave the other ranks, then mark a stopped run, or export. Exits for the monitor."""
    plan, leads = trainer.plan, world.leads
    exports = leads and steps == plan.length.total_steps and plan.config.checkpoint.export and not trainer.stopped
    unfinished = steps < plan.length.total_steps and not trainer.stopped
    if leads and unfinished:  # before anything that takes time: after a signal there is little
        plan.run.requeue.touch()
    if not exports:
        signals.ignore()
    trainer.progress.enter("leaving")
    for sink in reversed(trainer.parts.sinks):  # the first takes what the others have to say at their end
        sink.close()
    stop_world()
    if trainer.stopped:
        if leads:
            told = f"stopped by the monitor after step {steps}: {trainer.stopped}; see {plan.run.events}"
            print(told, file=sys.stderr, flush=True)
        sys.exit(EXIT_CODE)
    if exports:
        _export(trainer)
    elif leads and unfinished:
        print(f"stopped by a signal after step {steps}, everything is saved; --resume auto continues", flush=True)


def _export(trainer: Trainer) -> None:
    """Export, unless asked to stop: that leaves the mark of an unfinished run, which exports when it is continued.

    Raises `RunError` if the last checkpoint is damaged, as an older one is not what was trained, or the disk fails.
    """
    plan = trainer.plan
    try:
        with signals.interruptible():
            trainer.progress.enter("export")
            checkpoint = open_checkpoint(plan.run, plan.length.total_steps)
            exported = export_checkpoint(plan.run, checkpoint, plan.run.export)
    except signals.StopRequested:
        signals.ignore()
        plan.run.requeue.touch()
        print("stopped by a signal before the export was done; --resume auto exports", flush=True)
    except (RunError, OSError, SafetensorError) as error:  # safetensors' own stands for a full disk as well
        raise RunError(
            f"nothing was exported to {plan.run.export}: {error}; then continue with --resume auto"
        ) from error
    else:
        signals.ignore()
        print(f"exported to {exported}", flush=True)
