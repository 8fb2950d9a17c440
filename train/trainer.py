"""The training loop: next batch, engine step, monitor's verdict, sinks, checkpoint if due.

Random numbers (dropout) are keyed by (seed, data step, rank) and set anew before each step, so they need no saving and
a resumed run draws the same ones.
"""

import math
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from configs.errors import DataError
from train.batches import StepData
from train.checkpoints import Checkpoint, CheckpointWriter
from train.distributed import World
from train.engine import Engine, ParameterState, StepResult
from train.epochs import OrderState, keyed_hash
from train.flops import FlopModel, peak_flops
from train.heldout import HeldOut
from train.loss import local_units, weigh
from train.plan import RunPlan
from train.schedule import lr_factor
from train.signals import stop_requested
from train.sinks import Sink, make_event
from train.spikes.actions import Actions, Decision
from train.spikes.episodes import ALARMS
from train.spikes.monitor import SpikeMonitor
from train.spikes.recovery import roll_back, suspects


@dataclass
class Collaborators:
    """What the loop works with. `sinks` is empty and `checkpoints` idle on ranks that do not lead."""

    engine: Engine
    monitor: SpikeMonitor
    actions: Actions
    checkpoints: CheckpointWriter
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
        self.stopped: str | None = None  # why the monitor ended the run
        self.peak = peak_flops(torch.cuda.get_device_name()) if world.device.type == "cuda" else None

    def restore(self, checkpoint: Checkpoint) -> None:
        """Continue after `checkpoint`."""
        state = checkpoint.state
        self.order = OrderState(checkpoint.step, tuple((a, b) for a, b in state["order"]["skipped"]))
        self.parts.actions.load(state.get("actions", {}))
        self.write_back(checkpoint, checkpoint.parameters(), checkpoint.step - self.parts.actions.memory.missed)

    def write_back(self, checkpoint: Checkpoint, parameters: Iterator[ParameterState], updates: int) -> None:
        """Set weights and moments to `parameters`, AdamW's count to `updates`, and the monitor to `checkpoint`'s."""
        self.parts.monitor.load(checkpoint.state["monitor"])
        self.parts.engine.write_state(parameters, updates)

    def run(self) -> int:
        """Train to the end, or to an agreed stop; returns the number of steps done. The last step is saved."""
        total, batches = self.plan.length.total_steps, self._batches()
        if self.order.step == 0 and self.parts.actions.rolls_back:
            self.save()  # so that there is something to go back to
        while (step := self.order.step) < total:
            clock = time.perf_counter()
            data = self._read(batches)
            waited = time.perf_counter() - clock
            record, stop = self._step(step, data, waited, clock)
            self.order = OrderState(step + 1, self.order.skipped)
            decision = self._report(record)
            if decision.kind == "rollback":
                decision, batches = self._roll_back(decision), self._batches()
                if decision.kind == "none":
                    continue
            if decision.kind == "stop":
                self.stopped = decision.reason
                self._event("stopped_by_monitor", decision.reason, since=decision.since)
                break
            if stop or step + 1 == total or (step + 1) % self.plan.config.checkpoint.every == 0:
                self.save()
            if stop:
                break
        return self.order.step

    def _batches(self) -> Iterator[StepData]:
        """The training data from where the run stands."""
        data_step = self.order.data_step(self.order.step)
        return self.plan.training_batches().steps(data_step, self.world.rank, self.plan.config.train.workers)

    def _roll_back(self, decision: Decision) -> Decision:
        """Go back and save that; what is left to decide is whether to stop."""
        done = roll_back(self, self.plan.run, self.parts.actions, decision)
        if isinstance(done, Decision):
            return done
        self._event("rolled_back", done, since=decision.since)
        self.save()
        return Decision()

    def save(self) -> None:
        """Commit a checkpoint of the current step. All ranks take part."""
        began = time.perf_counter()
        states = self.parts.engine.read_state()
        if not self.world.leads:
            for _ in states:  # gathering is collective
                pass
        else:
            order = {"step": self.order.step, "skipped": [list(pair) for pair in self.order.skipped]}
            rng = {"rule": "torch.manual_seed(hash(seed, data step, rank)) before each step", "seed": self._seed}
            state = {**self.identity, "order": order, "monitor": self.parts.monitor.state(), "rng": rng}
            state["actions"] = self.parts.actions.state()
            folder = self.parts.checkpoints.write(self.order.step, states, state)
            size = sum(file.stat().st_size for file in folder.iterdir())
            seconds = time.perf_counter() - began
            message = f"{folder.name}, {size / 1e6:.1f} MB in {seconds:.2f} s"
            self._event("checkpoint", message, bytes=size, seconds=seconds)
        self.world.barrier()

    @property
    def _seed(self) -> int:
        return self.plan.config.seed

    def _read(self, batches: Iterator[StepData]) -> StepData:
        """The next step's data. What is wrong with a sample is said by the rank that reads it."""
        try:
            data = next(batches)
        except DataError as error:
            if not self.world.leads:  # whose error the entry point prints
                print(f"error: {error}", file=sys.stderr, flush=True)
            raise
        for problem in (problem for batch in data.batches for problem in batch.problems):
            print(f"rank {self.world.rank} passes over {problem}", file=sys.stderr, flush=True)
        return data

    def _step(self, step: int, data: StepData, waited: float, clock: float) -> tuple[dict[str, Any], bool]:
        """One optimizer step; returns its metrics record and whether to stop after it."""
        config, world, batches = self.plan.config, self.world, data.batches
        factor = lr_factor(step, self.plan.length.total_steps, config.optim) * self.parts.actions.lr_scale(step)
        seed = keyed_hash(np.array([self.order.data_step(step)], dtype=np.uint64), self._seed, world.rank)
        torch.manual_seed(int(seed[0]) >> 1)
        units = int(world.all_sum([local_units(batches, config.loss.normalisation)])[0])
        for batch in batches:
            weigh(batch, config.loss.normalisation, units, world.size * self.plan.batches.accumulation)
        exchanged: list[_Totals] = []

        def before_update(loss: float, sums: list[torch.Tensor]) -> float:
            exchanged.append(self._exchange(data, loss, sums))
            return self.parts.actions.norm_limit(self.parts.monitor, exchanged[0].by_source)

        result = self.parts.engine.step(batches, factor, before_update)
        totals = exchanged[0]
        elapsed = time.perf_counter() - clock
        record: dict[str, Any] = {
            "step": step + 1,
            "epoch": (step + 1) / self.plan.length.steps_per_epoch,
            "loss": totals.loss,
            "grad_norm": result.grad_norm,
            "lr": {part: rate * factor for part, rate in self._rates().items()},
            "tokens": totals.tokens,
            "supervised_tokens": totals.supervised,
            "samples": totals.samples,
            "unsupervised_samples": totals.unsupervised,
            "unreadable_samples": totals.unreadable,
            "samples_per_s": totals.samples / elapsed,
            "tokens_per_s": totals.tokens / elapsed,
            "data_wait_s": waited,
            "step_s": elapsed,
            "peak_memory_bytes": peak_memory(world.device),
            "loss_by_source": totals.by_source,
        }
        record |= self._extras(data, result, totals)
        if self.peak:
            lengths = [int(n) for batch in batches for n in batch.lengths()]
            images = sum(len(batch.pixels) for batch in batches)
            record["mfu"] = self.parts.flops.step(lengths, images) / elapsed / self.peak
        if self._measures_heldout(step + 1):
            record["heldout_loss"] = self.parts.heldout.measure(self.parts.engine, world)
        return record, totals.stop

    def _extras(self, data: StepData, result: StepResult, totals: "_Totals") -> dict[str, Any]:
        """What not every step has: the update's size, whether it was skipped and because of which samples."""
        extras: dict[str, Any] = {}
        if result.update_rms is not None:
            extras["update_rms"] = result.update_rms
        if not result.applied:
            extras["skipped"] = True
            if not math.isfinite(totals.loss):
                extras["suspects"] = suspects(self.world, data, result.sums)
        if self.parts.actions.memory.rollbacks:
            extras["attempt"] = self.parts.actions.memory.rollbacks
        return extras

    def _rates(self) -> dict[str, float]:
        groups = self.parts.engine.optimizer.param_groups
        return {group["name"]: group["peak_lr"] for group in groups}

    def _measures_heldout(self, step: int) -> bool:
        every = self.plan.config.train.eval_every
        due = step == self.plan.length.total_steps or (every > 0 and step % every == 0)
        return due and bool(self.parts.heldout.chosen)

    def _exchange(self, data: StepData, loss: float, by_batch: list[torch.Tensor]) -> "_Totals":
        """Sum what all ranks saw, in one collective: losses and tokens per source, counts, requests to stop."""
        names = self.plan.sources.names
        sums, tokens = [0.0] * len(names), [0.0] * len(names)
        supervised = samples = unsupervised = unreadable = all_tokens = 0
        for batch, by_sample in zip(data.batches, by_batch, strict=True):
            counts = batch.supervised().tolist()
            rows = zip(batch.sources.tolist(), by_sample.double().tolist(), counts, strict=True)
            for source, summed, count in rows:
                if source < 0:
                    continue
                sums[source] += summed
                tokens[source] += count
                samples += 1
                unsupervised += count == 0
            supervised += sum(counts)
            unreadable += len(batch.problems)
            all_tokens += int(batch.attention_mask.sum())
        counted = [supervised, samples, unsupervised, unreadable, all_tokens]
        loss, stop, *rest = self.world.all_sum([loss, float(stop_requested()), *counted, *sums, *tokens])
        supervised, samples, unsupervised, unreadable, all_tokens = (int(count) for count in rest[: len(counted)])
        rest = rest[len(counted) :]
        by_source = {
            name: rest[number] / rest[len(names) + number]
            for number, name in enumerate(names)
            if rest[len(names) + number]
        }
        return _Totals(loss, bool(stop), supervised, samples, unsupervised, unreadable, all_tokens, by_source)

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
            details = {"signal": verdict.signal, "value": verdict.value, "since": verdict.since}
            if verdict.kind in ALARMS:
                steps = (verdict.steps.start, verdict.steps[-1])
                details["data_steps"] = [self.order.data_step(max(0, step - 1)) for step in steps]
            self._event(verdict.kind, verdict.message(), nature=verdict.nature, **details)
        if not applied:
            self._event("skipped", skip_message(record), suspects=record.get("suspects"))
        return self.parts.actions.decide(step, verdicts, applied)

    def _event(self, kind: str, message: str, **details: Any) -> None:
        for sink in self.parts.sinks:
            sink.event(make_event(self.order.step, kind, message, **details))


@dataclass(frozen=True)
class _Totals:
    """Sums over all ranks of one step."""

    loss: float
    stop: bool
    supervised: int
    samples: int
    unsupervised: int
    unreadable: int
    tokens: int
    by_source: dict[str, float]


def skip_message(record: dict[str, Any]) -> str:
    """Why a step's update was not made, for people: the rank and the samples where they are known."""
    found = record.get("suspects")
    if found:
        named = "; ".join(f"rank {rank}: {' '.join(ids)}" for rank, ids in found.items())
        return f"update not made, weights and moments unchanged; not finite on {named}"
    norm = f"loss {record['loss']:.4g}, gradient norm {record['grad_norm']:.4g}"
    return f"update not made, weights and moments unchanged: {norm}"


def peak_memory(device: torch.device) -> int:
    """Most bytes used so far: allocated on a GPU, resident on a CPU."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
