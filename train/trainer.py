"""The training loop: next batch, engine step, monitor's verdict, sinks, checkpoint if due.

Random numbers (dropout) are keyed by (seed, data step, rank) and set anew before each step, so they need no saving and
a resumed run draws the same ones.
"""

import resource
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from train.batches import StepData
from train.checkpoints import Checkpoint, CheckpointWriter
from train.distributed import World
from train.engine import Engine, StepResult
from train.epochs import OrderState, keyed_hash
from train.flops import FlopModel, peak_flops
from train.heldout import HeldOut
from train.loss import local_units, weigh
from train.plan import RunPlan
from train.schedule import lr_factor
from train.signals import stop_requested
from train.sinks import Sink, make_event
from train.spikes import SpikeMonitor


@dataclass
class Collaborators:
    """What the loop works with. `sinks` is empty and `checkpoints` idle on ranks that do not lead."""

    engine: Engine
    monitor: SpikeMonitor
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
        self.peak = peak_flops(torch.cuda.get_device_name()) if world.device.type == "cuda" else None

    def restore(self, checkpoint: Checkpoint) -> None:
        """Continue after `checkpoint`."""
        state = checkpoint.state
        self.order = OrderState(checkpoint.step, tuple((a, b) for a, b in state["order"]["skipped"]))
        self.parts.monitor.load(state["monitor"])
        self.parts.engine.write_state(checkpoint.parameters(), checkpoint.step)

    def run(self) -> int:
        """Train to the end, or to an agreed stop; returns the number of steps done. The last step is saved."""
        total, start = self.plan.length.total_steps, self.order.step
        data_step = self.order.data_step(start)
        batches = self.plan.training_batches().steps(data_step, self.world.rank, self.plan.config.train.workers)
        for step in range(start, total):
            clock = time.perf_counter()
            data = next(batches)
            waited = time.perf_counter() - clock
            record, stop = self._step(step, data, waited, clock)
            self.order = OrderState(step + 1, self.order.skipped)
            self._report(record)
            if stop or step + 1 == total or (step + 1) % self.plan.config.checkpoint.every == 0:
                self.save()
            if stop:
                break
        return self.order.step

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
            folder = self.parts.checkpoints.write(self.order.step, states, state)
            size = sum(file.stat().st_size for file in folder.iterdir())
            seconds = time.perf_counter() - began
            message = f"{folder.name}, {size / 1e6:.1f} MB in {seconds:.2f} s"
            self._event("checkpoint", message, bytes=size, seconds=seconds)
        self.world.barrier()

    @property
    def _seed(self) -> int:
        return self.plan.config.seed

    def _step(self, step: int, data: StepData, waited: float, clock: float) -> tuple[dict[str, Any], bool]:
        """One optimizer step; returns its metrics record and whether to stop after it."""
        config, world, batches = self.plan.config, self.world, data.batches
        factor = lr_factor(step, self.plan.length.total_steps, config.optim)
        seed = keyed_hash(np.array([self.order.data_step(step)], dtype=np.uint64), self._seed, world.rank)
        torch.manual_seed(int(seed[0]) >> 1)
        units = int(world.all_sum([local_units(batches, config.loss.normalisation)])[0])
        for batch in batches:
            weigh(batch, config.loss.normalisation, units, world.size * self.plan.batches.accumulation)
        result = self.parts.engine.step(batches, factor)
        totals = self._exchange(data, result)
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
            "samples_per_s": totals.samples / elapsed,
            "tokens_per_s": totals.tokens / elapsed,
            "data_wait_s": waited,
            "step_s": elapsed,
            "peak_memory_bytes": peak_memory(world.device),
            "loss_by_source": totals.by_source,
        }
        if self.peak:
            lengths = [int(n) for batch in batches for n in batch.lengths()]
            images = sum(len(batch.pixels) for batch in batches)
            record["mfu"] = self.parts.flops.step(lengths, images) / elapsed / self.peak
        if self._measures_heldout(step + 1):
            record["heldout_loss"] = self.parts.heldout.measure(self.parts.engine, world)
        return record, totals.stop

    def _rates(self) -> dict[str, float]:
        groups = self.parts.engine.optimizer.param_groups
        return {group["name"]: group["peak_lr"] for group in groups}

    def _measures_heldout(self, step: int) -> bool:
        every = self.plan.config.train.eval_every
        due = step == self.plan.length.total_steps or (every > 0 and step % every == 0)
        return due and bool(self.parts.heldout.chosen)

    def _exchange(self, data: StepData, result: StepResult) -> "_Totals":
        """Sum what all ranks saw, in one collective: losses and tokens per source, counts, requests to stop."""
        names = self.plan.sources.names
        sums, tokens = [0.0] * len(names), [0.0] * len(names)
        supervised = samples = unsupervised = all_tokens = 0
        for batch, by_sample in zip(data.batches, result.sums, strict=True):
            counts = batch.supervised().tolist()
            rows = zip(batch.sources.tolist(), by_sample.double().tolist(), counts, strict=True)
            for source, loss, count in rows:
                if source < 0:
                    continue
                sums[source] += loss
                tokens[source] += count
                samples += 1
                unsupervised += count == 0
            supervised += sum(counts)
            all_tokens += int(batch.attention_mask.sum())
        local = [result.loss, supervised, samples, unsupervised, all_tokens, float(stop_requested()), *sums, *tokens]
        loss, supervised, samples, unsupervised, all_tokens, stop, *rest = self.world.all_sum(local)  # type: ignore[assignment]
        by_source = {
            name: rest[number] / rest[len(names) + number]
            for number, name in enumerate(names)
            if rest[len(names) + number]
        }
        return _Totals(loss, int(supervised), int(samples), int(unsupervised), int(all_tokens), bool(stop), by_source)

    def _report(self, record: dict[str, Any]) -> None:
        """Judge the step and tell the sinks. The monitor sees all-reduced values, the same on every rank."""
        verdicts = self.parts.monitor.observe(record["step"], record["loss_by_source"], record["grad_norm"])
        if record["step"] % self.plan.config.logging.every == 0 or verdicts or "heldout_loss" in record:
            for sink in self.parts.sinks:
                sink.metrics(record)
        for verdict in verdicts:
            self._event(verdict.kind, verdict.message(), signal=verdict.signal, value=verdict.value)

    def _event(self, kind: str, message: str, **details: Any) -> None:
        for sink in self.parts.sinks:
            sink.event(make_event(self.order.step, kind, message, **details))


@dataclass(frozen=True)
class _Totals:
    """Sums over all ranks of one step."""

    loss: float
    supervised: int
    samples: int
    unsupervised: int
    tokens: int
    stop: bool
    by_source: dict[str, float]


def peak_memory(device: torch.device) -> int:
    """Most bytes used so far: allocated on a GPU, resident on a CPU."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
