"""The training loop: next batch, engine step, monitor's verdict, sinks, checkpoint if due.

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
from train.checkpoints.reading import Checkpoint
from train.checkpoints.saving import Saver
from train.checkpoints.writing import Snapshot
from train.distributed import World
from train.engine import Engine, Losses, ParameterState, Update
from train.epochs import OrderState, keyed_hash
from train.flops import FlopModel, peak_flops
from train.heldout import HeldOut
from train.loss import local_units, weigh
from train.model import Batch
from train.plan import RunPlan
from train.schedule import lr_factor
from train.sinks import Sink, make_event
from train.spikes.actions import Actions, Decision
from train.spikes.involved import Witness
from train.spikes.monitor import SpikeMonitor
from train.spikes.recovery import roll_back, suspects, with_advice
from train.spikes.verdicts import Verdict
from train.step_record import peak_memory, skip_message, step_record
from train.supervision import signals
from train.supervision.board import Board
from train.supervision.progress import ForwardClock, Progress
from train.supervision.stragglers import Stragglers
from train.totals import Totals, sum_over_ranks


@dataclass
class Collaborators:
    """What the loop works with. `sinks` is empty and `saver` idle on ranks that do not lead."""

    engine: Engine
    monitor: SpikeMonitor
    actions: Actions
    saver: Saver
    heldout: HeldOut
    flops: FlopModel
    sinks: list[Sink] = field(default_factory=list)


class Trainer:
    """Runs a plan from wherever it stands to its last step."""

    def __init__(self, plan: RunPlan, world: World, parts: Collaborators, identity: dict[str, Any]):
        """`identity` is stored in every checkpoint and says what it belongs to."""
        self.plan = plan
        self.world = world
        self.parts = parts
        self.identity = identity
        self.order = OrderState()
        self.witness = Witness(plan.sources, plan.order)
        self.progress = Progress()
        self.board = Board(world.rank, world.size)
        self.forwards = ForwardClock(parts.engine.module, self.progress, world.device)
        self.stragglers = Stragglers(plan.config.train.straggler_factor)
        self.saved: int | None = None  # the step of the last checkpoint
        self.stopped: str | None = None  # why the monitor ended the run
        self.peak = peak_flops(torch.cuda.get_device_name()) if world.device.type == "cuda" else None

    def restore(self, checkpoint: Checkpoint) -> None:
        """Continue after `checkpoint`."""
        state = checkpoint.state
        self.saved = checkpoint.step
        self.order = OrderState(checkpoint.step, tuple((a, b) for a, b in state["order"]["skipped"]))
        self.parts.actions.load(state.get("actions", {}))
        self.write_back(checkpoint, checkpoint.parameters(), checkpoint.step - self.parts.actions.memory.missed)

    def write_back(self, checkpoint: Checkpoint, parameters: Iterator[ParameterState], updates: int) -> None:
        """Set weights and moments to `parameters`, AdamW's count to `updates`, and the monitor to `checkpoint`'s."""
        self.parts.monitor.load(checkpoint.state["monitor"])
        self.parts.engine.write_state(parameters, updates)

    def run(self) -> int:
        """Train to the end, or to an agreed stop; returns the number of steps done. The last step is saved.

        Raises `RunError` on all ranks if that last checkpoint could not be written.
        """
        try:
            self._loop()
        finally:  # whatever ends the run, a checkpoint that is being written is finished first
            self._tell_saved(wait=True)
        failed = self.world.all_max(float(self.parts.saver.failed_step == self.order.step))
        if failed:
            raise RunError(
                f"the last checkpoint, of step {self.order.step}, could not be written to {self.plan.run.checkpoints} "
                f"(see checkpoint_failed in {self.plan.run.events}); make room and continue with --resume auto"
            )
        return self.order.step

    def _loop(self) -> None:
        """Steps until the end or a reason to stop."""
        total, batches = self.plan.length.total_steps, self._batches()
        if self.order.step == 0 and self.parts.actions.rolls_back:
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
            decision = self._report(record)
            if decision.kind == "rollback":
                decision, batches = self._roll_back(decision), self._batches()
                if decision.kind == "none":
                    continue
            if decision.kind == "stop":
                self.stopped = with_advice(self.plan.run, decision)
                self._event("stopped_by_monitor", self.stopped, since=decision.since)
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
        done = roll_back(self, self.plan.run, self.parts.actions, decision)
        if isinstance(done, Decision):
            return done
        self._event("rolled_back", done, since=decision.since)
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
        if not self.world.leads:
            for _ in self.parts.engine.gather():  # collective
                pass
            return
        states = self.parts.engine.read_state()
        order = {"step": self.order.step, "skipped": [list(pair) for pair in self.order.skipped]}
        rng = {"rule": "torch.manual_seed(hash(seed, data step, rank)) before each step", "seed": self._seed}
        state = {**self.identity, "order": order, "monitor": self.parts.monitor.state(), "rng": rng}
        state["actions"] = self.parts.actions.state()
        self.parts.saver.begin(Snapshot.take(self.order.step, states, state), began)

    def _tell_saved(self, wait: bool = False) -> None:
        """An event for a checkpoint that has been committed or has failed since, on the leading rank."""
        if outcome := self.parts.saver.finished(wait):
            kind, message, details = outcome.event()
            for sink in self.parts.sinks:
                sink.event(make_event(outcome.step, kind, message, **details))

    @property
    def _seed(self) -> int:
        return self.plan.config.seed

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
        factor = lr_factor(step, self.plan.length.total_steps, config.optim) * self.parts.actions.lr_scale(step)
        seed = keyed_hash(np.array([self.order.data_step(step)], dtype=np.uint64), self._seed, world.rank)
        torch.manual_seed(int(seed[0]) >> 1)
        for batch in batches:
            weigh(batch, config.loss.normalisation, units, world.size * self.plan.batches.accumulation)
        self.progress.enter("forward/backward")
        losses = self.parts.engine.accumulate(batches)
        self.progress.enter("exchange")
        own = waited + self.forwards.take() + self.progress.stalled
        totals = sum_over_ranks(world, self.plan.sources.names, batches, losses, own)
        self.progress.enter("update")
        limit = self.parts.actions.norm_limit(self.parts.monitor, totals.by_source)
        update = self.parts.engine.update(factor, limit)
        self.progress.enter("report", step + 1)
        record: dict[str, Any] = {
            "step": step + 1,
            "epoch": (step + 1) / self.plan.length.steps_per_epoch,
            "lr": {part: rate * factor for part, rate in self._rates().items()},
            **step_record(totals, update.grad_norm, time.perf_counter() - clock, waited),
            "peak_memory_bytes": peak_memory(world.device),
        }
        record |= self._extras(batches, losses, update, totals.loss)
        self._report_stragglers(totals, record["step_s"])
        if self.peak:
            lengths = [int(n) for batch in batches for n in batch.lengths()]
            images = sum(len(batch.pixels) for batch in batches)
            record["mfu"] = self.parts.flops.step(lengths, images) / record["step_s"] / self.peak
        if self._measures_heldout(step + 1):
            self.progress.enter("held-out")
            record["heldout_loss"] = self.parts.heldout.measure(self.parts.engine, world)
            self.progress.enter("report")
        return record, totals.stop

    def _extras(self, batches: list[Batch], losses: Losses, update: Update, loss: float) -> dict[str, Any]:
        """What not every step has: the update's size, whether it was skipped and because of which samples."""
        extras: dict[str, Any] = {}
        if update.rms is not None:
            extras["update_rms"] = update.rms
        if not update.applied:
            extras["skipped"] = True
            if not math.isfinite(loss):
                extras["suspects"] = suspects(batches, losses.sums)
        if self.parts.actions.memory.rollbacks:
            extras["attempt"] = self.parts.actions.memory.rollbacks
        return extras

    def _report_stragglers(self, totals: Totals, seconds: float) -> None:
        for found in self.stragglers.observe(totals.own_seconds, seconds):
            peer = self.board.peers[found.rank] if self.board.peers else f"rank {found.rank}"
            message = (
                f"{peer} takes {found.score:.1f} times as long as the others; it costs {found.seconds:.2f} s a step"
            )
            self._event("straggler", message, rank=found.rank, score=found.score, seconds=found.seconds)

    def _rates(self) -> dict[str, float]:
        groups = self.parts.engine.optimizer.param_groups
        return {group["name"]: group["peak_lr"] for group in groups}

    def _measures_heldout(self, step: int) -> bool:
        every = self.plan.config.train.eval_every
        due = step == self.plan.length.total_steps or (every > 0 and step % every == 0)
        return due and bool(self.parts.heldout.chosen)

    def _report(self, record: dict[str, Any]) -> Decision:
        """Judge the step, tell the sinks, decide. Monitor and actions see the same all-reduced values on every rank."""
        step, applied = record["step"], not record.get("skipped")
        values = (record["loss_by_source"], record["grad_norm"], record.get("update_rms"))
        verdicts = self.parts.monitor.observe(step, *values)
        due = step % self.plan.config.logging.every == 0 or verdicts or not applied or "heldout_loss" in record
        for sink in self.parts.sinks if due else ():
            sink.metrics(record)
        if record["unreadable_samples"]:
            count = record["unreadable_samples"]
            self._event("unreadable_samples", f"{count} samples weigh nothing; the ranks that read them name them")
        for verdict in verdicts:
            self._event(verdict.kind, verdict.message(), **self._details(verdict))
        if not applied:
            self._event("skipped", skip_message(record), suspects=record.get("suspects"))
        return self.parts.actions.decide(step, verdicts, applied)

    def _details(self, verdict: Verdict) -> dict[str, Any]:
        """What an event says of a verdict beside its message; nothing on ranks that write none."""
        if not self.parts.sinks:
            return {}
        steps = (verdict.steps.start, verdict.steps[-1])
        return {
            "signal": verdict.signal,
            "value": verdict.value,
            "since": verdict.since,
            "nature": verdict.nature,
            "data_steps": [self.order.data_step(max(0, step - 1)) for step in steps],
            "samples": self.witness.of(verdict, self.order.data_step),
        }

    def _event(self, kind: str, message: str, **details: Any) -> None:
        for sink in self.parts.sinks:
            sink.event(make_event(self.order.step, kind, message, **details))
