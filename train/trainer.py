"""The training loop: read a batch, update the weights, watch the loss, log, save a checkpoint when one is due.

Before each step the random seed (dropout) is set from (seed, data step, rank), so a resumed run draws the same numbers
without a saved generator state.
"""

import math
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from configs.errors import RunError
from data_prep.sample import UnreadableSample
from train.checkpoints.best import BestCheckpoint
from train.checkpoints.reading import Checkpoint, steps_present
from train.checkpoints.writing import Snapshot
from train.components import TrainerComponents
from train.data.order import DataPosition, keyed_hash
from train.distributed.world import World, all_gather_objects
from train.loggers.run_reporter import RunReporter
from train.loggers.step_record import peak_memory, step_record
from train.loss import local_denominator, set_loss_weights
from train.models.batch import Batch
from train.optimization.flops import peak_flops
from train.optimization.full_state import ParameterState
from train.optimization.schedule import lr_factor
from train.optimization.step_totals import sum_over_ranks
from train.plan import RunPlan
from train.probe_loss import local_probe_denominator, set_probe_weights
from train.spikes.flagged_samples import SampleLookup
from train.spikes.policy import Decision
from train.spikes.recovery import nonfinite_samples, roll_back, with_advice
from train.supervision import signals
from train.supervision.heartbeats import HeartbeatStore
from train.supervision.progress import ForwardClock, Progress


class Trainer:
    """Runs a plan from its current step to the last one."""

    def __init__(self, plan: RunPlan, world: World, components: TrainerComponents, identity: dict[str, Any]):
        """`identity` (`train.resume.run_identity`) is stored in every checkpoint."""
        self.plan = plan
        self.world = world
        self.components = components
        self.identity = identity
        self.position = DataPosition()
        self.progress = Progress()
        self.heartbeats = HeartbeatStore(world.rank, world.size)
        lookup = SampleLookup(plan.sources, plan.order)
        self.reporter = RunReporter(plan.config, lookup, components.loggers, self.heartbeats)
        self.forwards = ForwardClock(components.engine.module, self.progress, world.device)
        self.best = BestCheckpoint(
            plan.config.checkpoint, {name: len(chosen) for name, chosen in components.heldout.chosen.items()}
        )
        self.saved_step: int | None = None  # of the last checkpoint
        self.updated = False  # whether a step since this start had a gradient above zero
        self.stopped: str | None = None  # why the monitor ended the run
        self.peak = peak_flops(torch.cuda.get_device_name()) if world.device.type == "cuda" else None

    def restore(self, checkpoint: Checkpoint) -> None:
        """Continue after `checkpoint`."""
        state = checkpoint.state
        self.saved_step = checkpoint.step
        self.position = DataPosition(checkpoint.step, tuple((a, b) for a, b in state["order"]["skipped"]))
        self.components.policy.load_state_dict(state["policy"])
        self.load_state(checkpoint, checkpoint.parameters(), checkpoint.step - self.components.policy.state.missed)

    def load_state(self, checkpoint: Checkpoint, parameters: Iterator[ParameterState], updates: int) -> None:
        """Set weights and moments to `parameters`, AdamW's step count to `updates`, the monitor to `checkpoint`'s."""
        self.components.monitor.load_state_dict(checkpoint.state["monitor"])
        present = all_gather_objects(steps_present(self.plan.run))[0]  # every rank must save at the same steps
        self.best.load_state_dict(checkpoint.state.get("best"), present)
        self.components.engine.state.write(parameters, updates)

    def run(self) -> int:
        """Train to the last step, or until a stop is agreed; returns the number of steps done. The last step is saved.

        Raises `RunError` on all ranks if that last checkpoint could not be written.
        """
        try:
            self._loop()
        finally:  # however the run ends, a checkpoint that is being written is completed first
            self._log_finished_save(wait=True)
        failed = self.world.all_max(float(self.components.checkpointer.failed_step == self.position.step))
        if failed:
            raise RunError(
                f"the last checkpoint, of step {self.position.step}, could not be written to "
                f"{self.plan.run.checkpoints} (see checkpoint_failed in {self.plan.run.events}); free disk space and "
                "continue with --resume auto"
            )
        return self.position.step

    def _loop(self) -> None:
        """Step after step, to the last one or until a signal or the monitor stops the run."""
        total, batches = self.plan.length.total_steps, self._open_batches()
        if self.position.step == 0 and self.components.policy.rolls_back:
            self.save()  # a rollback needs a checkpoint to return to
            self._log_finished_save(wait=True)  # data workers are forked next: no thread should be running then
        while (step := self.position.step) < total and not self.best.is_exhausted():
            started = time.perf_counter()
            data = self._read(batches)
            waited = time.perf_counter() - started
            denominators = self._sum_denominators(data)
            if data is None or denominators is None:  # a rank received a stop request: no rank begins the step
                if self.saved_step != step:
                    self.save()
                break
            record, stop_requested = self._step(step, data, denominators, waited, started)
            self.position = DataPosition(step + 1, self.position.skipped)
            self._log_finished_save()
            decision = self._observe(record)
            if decision.kind == "rollback":
                decision, batches = self._roll_back(decision), self._open_batches()
                if decision.kind == "none":
                    continue
            if decision.kind == "stop":
                self._stop(decision)
                break
            improved = self.best.observe(step + 1, record.get("heldout_loss")) and self.best.keeps
            due = step + 1 == total or (step + 1) % self.plan.config.checkpoint.every == 0
            if stop_requested or due or improved or self.best.is_exhausted():
                self.save()
            if self.best.is_exhausted():
                self._stop_early()
            if stop_requested:
                break

    def _open_batches(self) -> Iterator[list[Batch]]:
        """The training data from the current step on."""
        return self.components.open_batches(self.position.data_step(self.position.step))

    def _roll_back(self, decision: Decision) -> Decision:
        """Return to an earlier checkpoint and save that state; the result is `stop` if there is no such checkpoint."""
        self._log_finished_save(wait=True)
        done = roll_back(self, self.plan.run, self.components.policy, decision)
        if isinstance(done, Decision):
            return done
        self.reporter.event(self.position.step, "rolled_back", done, since=decision.since)
        self.save()
        self._log_finished_save(wait=True)  # as before the first step
        return Decision()

    def _stop(self, decision: Decision) -> None:
        """Record why the monitor ends the run."""
        self._log_finished_save(wait=True)  # a checkpoint still being written counts for the advice
        self.stopped = with_advice(self.plan.run, decision)
        self.reporter.event(self.position.step, "stopped_by_monitor", self.stopped, since=decision.since)

    def _stop_early(self) -> None:
        """Record that training ends for lack of a better held-out loss."""
        best, step = self.best, self.position.step
        message = f"no better held-out loss than {best.loss:.4g} of step {best.step} in {best.since} measurements"
        self.reporter.event(step, "stopped_early", message)

    @property
    def is_complete(self) -> bool:
        """Whether training is done: at its last step, or ended early."""
        return self.position.step == self.plan.length.total_steps or self.best.is_exhausted()

    @property
    def step_to_export(self) -> int:
        """The best step if it is kept, else the last one."""
        return self.best.step if self.best.keeps and self.best.step is not None else self.position.step

    def save(self) -> None:
        """Copy the state of the current step to the main rank's memory and start writing it. Collective.

        This step's line in metrics.jsonl, with the last held-out loss, is on disk before the checkpoint is committed.
        """
        self.progress.enter("checkpoint", self.position.step)
        self.saved_step = self.position.step
        started = time.perf_counter()
        self._log_finished_save(wait=True)  # one checkpoint at a time
        components = self.components
        if not self.world.is_main_process:
            for _ in components.engine.state.iter_full_state():  # collective
                pass
            return
        order = {"step": self.position.step, "skipped": [list(pair) for pair in self.position.skipped]}
        rng = {"rule": "torch.manual_seed(hash(seed, data step, rank)) before each step", "seed": self.plan.config.seed}
        monitor, policy = components.monitor.state_dict(), components.policy.state_dict()
        state = {**self.identity, "order": order, "monitor": monitor, "rng": rng, "policy": policy}
        state["best"] = self.best.state_dict()
        components.checkpointer.begin(Snapshot.take(self.position.step, components.engine.state.read(), state), started)

    def _log_finished_save(self, wait: bool = False) -> None:
        """Log a checkpoint that was committed or failed since the last call (main rank)."""
        if result := self.components.checkpointer.finished(wait):
            self.reporter.saved(result)

    def _sum_denominators(self, data: list[Batch] | None) -> tuple[float, float] | None:
        """Denominators of the next step's loss and of a probe's; None if a rank received a stop request. Collective."""
        self.progress.enter("before the step")
        denominator = local_denominator(data, self.plan.config.loss.reduction) if data else 0
        classes = local_probe_denominator(data) if data else 0
        total, classes, stop = self.world.all_sum(
            [denominator, classes, float(data is None or signals.stop_requested())]
        )
        return None if stop else (total, classes)

    def _read(self, batches: Iterator[list[Batch]]) -> list[Batch] | None:
        """The next step's micro-batches; None as soon as this rank is asked to stop, however long reading takes."""
        self.progress.enter("data", self.position.step)
        self.progress.suspended = 0.0
        try:
            with signals.interruptible():
                return next(batches)
        except signals.StopRequested:
            return None

    def _step(
        self, step: int, batches: list[Batch], denominators: tuple[float, float], waited: float, started: float
    ) -> tuple[dict[str, Any], bool]:
        """One optimizer step; returns its metrics record and whether to stop after it."""
        config, world, components = self.plan.config, self.world, self.components
        factor = lr_factor(step, self.plan.length.total_steps, config.optim) * components.policy.lr_scale(step)
        seed = keyed_hash(np.array([self.position.data_step(step)], dtype=np.uint64), config.seed, world.rank)
        torch.manual_seed(int(seed[0]) >> 1)
        for batch in batches:
            scale = world.size * self.plan.batches.accumulation
            set_loss_weights(batch, config.loss.reduction, denominators[0], scale)
            set_probe_weights(batch, config.loss.probe, denominators[1], scale)
        self.progress.enter("forward/backward")
        losses = components.engine.accumulate(batches)
        self.progress.enter("sum of losses")
        own = waited + self.forwards.take() + self.progress.suspended
        totals = sum_over_ranks(world, self.plan.sources.names, batches, losses, own)
        self.progress.enter("update")
        update = components.engine.update(
            factor, components.policy.max_accepted_norm(components.monitor, totals.by_source)
        )
        self.progress.enter("report", step + 1)
        self.updated |= update.applied and update.grad_norm > 0
        seconds = time.perf_counter() - started
        record: dict[str, Any] = {
            "step": step + 1,
            "epoch": (step + 1) / self.plan.length.steps_per_epoch,
            "lr": components.engine.rates,
            **step_record(totals, update, seconds, waited),
            "peak_memory_bytes": peak_memory(world.device),
        }
        if not update.applied and not math.isfinite(totals.loss):
            record["nonfinite_samples"] = nonfinite_samples(batches, losses.by_sample)
        if components.policy.state.rollbacks:
            record["rollbacks"] = components.policy.state.rollbacks
        if self.peak:
            record["mfu"] = components.flops.step(batches) / seconds / self.peak
        if totals.unreadable:
            self._log_unreadable(step + 1, "train", [sample for batch in batches for sample in batch.unreadable])
        self.reporter.lagging(step + 1, totals.own_seconds, seconds)
        if self._heldout_is_due(step + 1):
            record["heldout_loss"] = self._measure_heldout(step + 1)
        return record, totals.stop

    def _heldout_is_due(self, step: int) -> bool:
        every = self.plan.config.train.heldout_every
        due = step == self.plan.length.total_steps or (every > 0 and step % every == 0)
        return due and bool(self.components.heldout.chosen)

    def _measure_heldout(self, step: int) -> dict[str, float]:
        """Held-out loss by source; samples found unreadable for the first time are logged. Collective."""
        self.progress.enter("held-out")
        measured = self.components.heldout.measure(self.components.engine, self.world)
        self.progress.enter("report")
        if measured.unreadable_anywhere:
            self._log_unreadable(step, "heldout", measured.unreadable)
        return measured.losses

    def _log_unreadable(self, step: int, split: str, found: Sequence[UnreadableSample]) -> None:
        """An event for each sample of any rank that could not be read. Collective, so called only if there is one."""
        for rank, samples in enumerate(all_gather_objects(list(found))):
            self.reporter.unreadable(step, split, rank, samples)

    def _observe(self, record: dict[str, Any]) -> Decision:
        """Give the step's record to monitor and loggers; returns what the policy decides.

        The record holds all-reduced values, so monitor and policy agree on all ranks.
        """
        values = (record["loss_by_source"], record["grad_norm"], record.get("update_rms"))
        alerts = self.components.monitor.observe(record["step"], *values)
        self.reporter.step(record, alerts, self.position)
        return self.components.policy.decide(record["step"], alerts, applied=not record.get("skipped"))
