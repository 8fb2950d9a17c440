"""The collaborators of the training loop, so that each can be replaced: a benchmark passes an engine with faults."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import nn

from train.checkpoints.async_checkpointer import AsyncCheckpointer
from train.heldout import HeldOut
from train.loggers.types import MetricLogger
from train.models.batch import Batch
from train.optimization.engine import Losses, Update
from train.optimization.flops import FlopModel
from train.optimization.full_state import FullState
from train.spikes.monitor import SpikeMonitor
from train.spikes.policy import SpikePolicy


class TrainingEngine(Protocol):
    """What the loop needs of an engine (`train.optimization.engine.Engine`)."""

    @property
    def module(self) -> nn.Module:
        """The module whose forward computes the loss."""
        ...

    @property
    def state(self) -> FullState:
        """Reads and sets the full training state."""
        ...

    @property
    def rates(self) -> dict[str, float]:
        """Part of the model to the learning rate of its last update."""
        ...

    def accumulate(self, batches: Sequence[Batch]) -> Losses:
        """Forward and backward of a step's micro-batches."""
        ...

    def update(self, factor: float, limit: float) -> Update:
        """One optimizer update at `factor` times the peak rates, unless the gradient norm is above `limit`."""
        ...

    def measure(self, batch: Batch) -> torch.Tensor:
        """Cross-entropy sum of each conversation (B,), without gradients."""
        ...


@dataclass
class TrainerComponents:
    """The collaborators of the loop. `loggers` is empty and `checkpointer` idle on all ranks but the main one.

    `open_batches` returns this rank's micro-batches of every step from a data step on.
    """

    open_batches: Callable[[int], Iterator[list[Batch]]]
    engine: TrainingEngine
    monitor: SpikeMonitor
    policy: SpikePolicy
    checkpointer: AsyncCheckpointer
    heldout: HeldOut
    flops: FlopModel
    loggers: list[MetricLogger] = field(default_factory=list)
