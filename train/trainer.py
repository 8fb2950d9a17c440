"""The training loop: next batch, engine step, monitor's alert, loggers, checkpoint if due.

Random numbers (dropout) are keyed by (seed, data step, rank) and set anew before each step, so they need no saving and
a resumed run draws the same ones.
"""

import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from configs.errors import RunError
from train.checkpoints.async_checkpointer import AsyncCheckpointer
from train.checkpoints.reading import Checkpoint
from train.checkpoints.writing import Snapshot
from train.data.order import OrderState, keyed_hash
from train.distributed.world import World
from train.heldout import HeldOut
from train.loggers.run_reporter import RunReporter
from train.loggers.step_record import peak_memory, step_record
from train.loggers.types import MetricLogger
from train.loss import local_units, weigh
from train.models.loading import Batch
from train.optimization.engine import Engine
from train.optimization.flops import FlopModel, peak_flops
from train.optimization.full_state import ParameterState
from train.optimization.schedule import lr_factor
from train.optimization.step_totals import sum_over_ranks
from train.plan import RunPlan
from train.spikes.flagged_samples import SampleLookup
from train.spikes.monitor import SpikeMonitor
from train.spikes.policy import Decision, SpikePolicy
from train.spikes.recovery import nonfinite_samples, roll_back, with_advice
from train.supervision import signals
from train.supervision.heartbeats import HeartbeatStore
from train.supervision.progress import ForwardClock, Progress


@dataclass
class TrainerComponents:
    """What the loop works with. `loggers` is empty and `checkpointer` idle on ranks that do not lead."""

    engine: Engine
    monitor: SpikeMonitor
    policy: SpikePolicy
    checkpointer: AsyncCheckpointer
    heldout: HeldOut
    flops: FlopModel
    loggers: list[MetricLogger] = field(default_factory=list)


class Trainer:
    """Runs a plan from wherever it stands to its last step."""

    def __init__(self, plan: RunPlan, world: World, parts: TrainerComponents, identity: dict[str, Any]):
        """`identity` is stored in every checkpoint and says what it belongs to."""
        self.plan = plan
        self.world = world
        self.components = parts
        self.identity = identity
        self.order = OrderState()
        self.progress = Progress()
        self.heartbeats = HeartbeatStore(world.rank, world.size)
        self.reporter = RunReporter(plan.config, SampleLookup(plan.sources, plan.order), parts.loggers, self.heartbeats)
        self.forwards = ForwardClock(parts.engine.module, self.progress, world.device)
        self.saved: int | None = None  # the step of the last checkpoint
        self.stopped: str | None = None  # why the monitor ended the run
        self.peak = peak_flops(torch.cuda.get_device_name()) if world.device.type == "cuda" else None

    def restore(self, checkpoint: Checkpoint) -> None:
        """Continue after `checkpoint`."""
        state = checkpoint.state
        self.saved = checkpoint.step
        self.order = OrderState(checkpoint.step, tuple((a, b) for a, b in state["order"]["skipped"]))
        self.components.policy.load_state_dict(state["policy"])
        self.write_back(checkpoint, checkpoint.parameters(), checkpoint.step - self.components.policy.state.missed)

    def write_back(self, checkpoint: Checkpoint, parameters: Iterator[ParameterState], updates: int) -> None:
        """Set weights and moments to `parameters`, AdamW's count to `updates`, and the monitor to `checkpoint`'s."""
        self.components.monitor.load_state_dict(checkpoint.state["monitor"])
        self.components.engine.state.write(parameters, updates)

    def run(self) -> int:
        """Train to the end, or to an agreed stop; returns the number of steps done. The last step is saved.

        Raises `RunError` on all ranks if that last checkpoint could not be written.
        """
        try:
            self._loop()
        finally:  # whatever ends the run, a checkpoint that is being written is finished first
            self._tell_saved(wait=True)
        failed = self.world.all_max(float(self.components.checkpointer.failed_step == self.order.step))
        if failed:
            raise RunError(
                f"the last checkpoint, of step {self.order.step}, could not be written to {self.plan.run.checkpoints} "
                f"(see checkpoint_failed in {self.plan.run.events}); make room and continue with --resume auto"
            )
        return self.order.step

    def _loop(self) -> None:
        """Steps until the end or a reason to stop."""
        total, batches = self.plan.length.total_steps, self._batches()
        if self.order.step == 0 and self.components.policy.rolls_back:
            self.save()  # so that there is something to go back to
            self._tell_saved(wait=True)  # processes that read data are forked next: best with no thread at work
        while (step := self.order.step) < total:
            clock = time.perf_counter()
            data = self._read(batches)
            waited = time.perf_counter() - clock
            units = self._agree(data)
            if data is None or units is None:  # a rank was asked to stop: the step is not begun on any
                if self.saved != step:
                    self.save()
                break
            record, stop = self._step(step, data, units, waited, clock)
            self.order = OrderState(step + 1, self.order.skipped)
            self._tell_saved()
            decision = self._judge(record)
            if decision.kind == "rollback":
                decision, batches = self._roll_back(decision), self._batches()
                if decision.kind == "none":
                    continue
            if decision.kind == "stop":
                self._tell_saved(wait=True)  # the advice counts a checkpoint that is still being written
                self.stopped = with_advice(self.plan.run, decision)
                self.reporter.event(step + 1, "stopped_by_monitor", self.stopped, since=decision.since)
                break
            if stop or step + 1 == total or (step + 1) % self.plan.config.checkpoint.every == 0:
                self.save()
            if stop:
                break

    def _batches(self) -> Iterator[list[Batch]]:
        """The training data from where the run stands."""
        data_step = self.order.data_step(self.order.step)
        return self.plan.training_batches().steps(data_step, self.world.rank, self.plan.config.train.workers)

    def _roll_back(self, decision: Decision) -> Decision:
        """Go back and save that; what is left to decide is whether to stop."""
        self._tell_saved(wait=True)
        done = roll_back(self, self.plan.run, self.components.policy, decision)
        if isinstance(done, Decision):
            return done
        self.reporter.event(self.order.step, "rolled_back", done, since=decision.since)
        self.save()
        self._tell_saved(wait=True)  # as at the start
        return Decision()

    def save(self) -> None:
        """Copy the state of the current step to the leading rank's memory and have it written. All ranks take part.

        The line of this step, with the last held-out loss, is in metrics.jsonl before the checkpoint is committed.
        """
        self.progress.enter("checkpoint", self.order.step)
        self.saved = self.order.step
        began = time.perf_counter()
        self._tell_saved(wait=True)  # one at a time
        if not self.world.is_main_process:
            for _ in self.components.engine.state.iter_full_state():  # collective
                pass
            return
        order = {"step": self.order.step, "skipped": [list(pair) for pair in self.order.skipped]}
        rng = {"rule": "torch.manual_seed(hash(seed, data step, rank)) before each step", "seed": self.plan.config.seed}
        monitor, policy = self.components.monitor.state_dict(), self.components.policy.state_dict()
        state = {**self.identity, "order": order, "monitor": monitor, "rng": rng, "policy": policy}
        self.components.checkpointer.begin(
            Snapshot.take(self.order.step, self.components.engine.state.read(), state), began
        )

    def _tell_saved(self, wait: bool = False) -> None:
        """An event for a checkpoint that has been committed or has failed since, on the leading rank."""
        if outcome := self.components.checkpointer.finished(wait):
            self.reporter.saved(outcome)

    def _agree(self, data: list[Batch] | None) -> int | None:
        """The units of the next step's loss on all ranks; None if some rank was asked to stop. Collective."""
        self.progress.enter("agreement")
        units = local_units(data, self.plan.config.loss.normalisation) if data else 0
        total, stop = self.world.all_sum([units, float(data is None or signals.stop_requested())])
        return None if stop else int(total)

    def _read(self, batches: Iterator[list[Batch]]) -> list[Batch] | None:
        """The next step's data, or None once this rank is asked to stop, as data may keep it waiting for long.

        A sample that is passed over is named by the rank that reads it.
        """
        self.progress.enter("data", self.order.step)
        self.progress.stalled = 0.0
        try:
            with signals.interruptible():
                data = next(batches)
        except signals.StopRequested:
            return None
        for problem in (problem for batch in data for problem in batch.problems):
            print(f"rank {self.world.rank} passes over {problem}", file=sys.stderr, flush=True)
        return data

    def _step(
        self, step: int, batches: list[Batch], units: int, waited: float, clock: float
    ) -> tuple[dict[str, Any], bool]:
        """One optimizer step; returns its metrics record and whether to stop after it."""
        config, world = self.plan.config, self.world
        factor = lr_factor(step, self.plan.length.total_steps, config.optim) * self.components.policy.lr_scale(step)
        seed = keyed_hash(np.array([self.order.data_step(step)], dtype=np.uint64), config.seed, world.rank)
        torch.manual_seed(int(seed[0]) >> 1)
        for batch in batches:
            weigh(batch, config.loss.normalisation, units, world.size * self.plan.batches.accumulation)
        self.progress.enter("forward/backward")
        losses = self.components.engine.accumulate(batches)
        self.progress.enter("exchange")
        own = waited + self.forwards.take() + self.progress.stalled
        totals = sum_over_ranks(world, self.plan.sources.names, batches, losses, own)
        self.progress.enter("update")
        limit = self.components.policy.norm_limit(self.components.monitor, totals.by_source)
        update = self.components.engine.update(factor, limit)
        self.progress.enter("report", step + 1)
        seconds = time.perf_counter() - clock
        record: dict[str, Any] = {
            "step": step + 1,
            "epoch": (step + 1) / self.plan.length.steps_per_epoch,
            "lr": self.components.engine.rates,
            **step_record(totals, update, seconds, waited),
            "peak_memory_bytes": peak_memory(world.device),
        }
        if not update.applied and not math.isfinite(totals.loss):
            record["nonfinite_samples"] = nonfinite_samples(batches, losses.sums)
        if self.components.policy.state.rollbacks:
            record["attempt"] = self.components.policy.state.rollbacks
        if self.peak:
            record["mfu"] = self.components.flops.step(batches) / seconds / self.peak
        self.reporter.lagging(step + 1, totals.own_seconds, seconds)
        if self._measures_heldout(step + 1):
            self.progress.enter("held-out")
            record["heldout_loss"] = self.components.heldout.measure(self.components.engine, world)
            self.progress.enter("report")
        return record, totals.stop

    def _measures_heldout(self, step: int) -> bool:
        every = self.plan.config.train.eval_every
        due = step == self.plan.length.total_steps or (every > 0 and step % every == 0)
        return due and bool(self.components.heldout.chosen)

    def _judge(self, record: dict[str, Any]) -> Decision:
        """Judge the step, tell of it, decide. Monitor and policy see the same all-reduced values on every rank."""
        values = (record["loss_by_source"], record["grad_norm"], record.get("update_rms"))
        alerts = self.components.monitor.observe(record["step"], *values)
        self.reporter.step(record, alerts, self.order)
        return self.components.policy.decide(record["step"], alerts, applied=not record.get("skipped"))
