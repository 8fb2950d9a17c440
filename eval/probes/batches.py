"""Batches of stored states, laid out for the two products of a head: kept in memory if they fit, else read per epoch.

A head's product on a CPU that oneDNN serves better (`eval.models.cpu_matmul`) takes the states as that library's
packed matrix, once as they are and once transposed: packed once, they serve every epoch.

Shapes: `N` items, `F` token positions, `G` positions of a group, `B` batch, `H` size of a state, `C` classes.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

import torch

from eval.models.cpu_matmul import linear, packed, prefers_onednn


class Batch(Protocol):
    """States of some items at all token positions. The products of a group of heads are computed together."""

    @property
    def labels(self) -> torch.Tensor:
        """(B,)."""
        ...

    def logits(self, group: int, weights: torch.Tensor) -> torch.Tensor:
        """(G, C, B) fp32: the group's weights (G, C, H) times the states."""
        ...

    def weight_gradient(self, group: int, gradient: torch.Tensor) -> torch.Tensor:
        """(G, C, H) fp32: (G, C, B) times the states."""
        ...


@dataclass(frozen=True, slots=True)
class PlainBatch:
    """By PyTorch's products; `states` are (G, B, H) of each group, on the heads' device, in the products' precision."""

    states: Sequence[torch.Tensor]
    labels: torch.Tensor

    def logits(self, group: int, weights: torch.Tensor) -> torch.Tensor:
        """As `Batch.logits`."""
        states = self.states[group]
        return torch.matmul(weights.to(states.dtype), states.transpose(1, 2)).float()

    def weight_gradient(self, group: int, gradient: torch.Tensor) -> torch.Tensor:
        """As `Batch.weight_gradient`."""
        states = self.states[group]
        return torch.matmul(gradient.to(states.dtype), states).float()


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """By oneDNN: packed states of each position, (B, H) in `rows` and (H, B) in `columns` (for training only)."""

    rows: Sequence[torch.Tensor]
    columns: Sequence[torch.Tensor]
    labels: torch.Tensor
    dtype: torch.dtype

    def logits(self, group: int, weights: torch.Tensor) -> torch.Tensor:
        """As `Batch.logits`."""
        return linear(weights[0].to(self.dtype), self.rows[group]).float()[None]

    def weight_gradient(self, group: int, gradient: torch.Tensor) -> torch.Tensor:
        """As `Batch.weight_gradient`."""
        return linear(gradient[0].to(self.dtype), self.columns[group]).float()[None]


@dataclass(frozen=True, slots=True)
class Layout:
    """How states are laid out for products in `dtype` on `device`; `learning` if heads learn from them."""

    dtype: torch.dtype
    device: str
    learning: bool

    @property
    def packs(self) -> bool:
        """Whether states are packed."""
        return prefers_onednn(torch.empty(0, device=self.device)) and (
            self.dtype == torch.float32 or multiplies_bf16(self.device)
        )

    def bytes(self, numbers: int) -> int:
        """What states of so many numbers take."""
        return numbers * self.dtype.itemsize * (2 if self.learning and self.packs else 1)

    def lay_out(self, states: torch.Tensor, labels: torch.Tensor) -> Batch:
        """A batch of (B, F, H) states and (B,) labels."""
        by_position = states.transpose(0, 1).to(self.device, self.dtype).contiguous()
        if not self.packs:
            return PlainBatch(torch.split(by_position, self.group(len(by_position))), labels.to(self.device))
        columns = [packed(own.t().contiguous()) for own in by_position] if self.learning else []
        return PackedBatch([packed(own) for own in by_position], columns, labels, self.dtype)

    def group(self, positions: int) -> int:
        """The number of heads multiplied together: one on a CPU, so that its data stay in the cache."""
        return 1 if self.device == "cpu" else positions


def multiplies_bf16(device: str) -> bool:
    """Whether the hardware behind `device` multiplies bf16 itself, and so faster than fp32."""
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


@dataclass(frozen=True)
class Items:
    """(N,) labels, and `read`: numbers of items (n,) to their states (n, F, H)."""

    labels: torch.Tensor
    read: Callable[[torch.Tensor], torch.Tensor]


class Batches:
    """All items in one order, in batches of `size`; `keep` lays them out once, for all epochs.

    With `shuffle_seed` every epoch has a different order, and no batch is kept.
    """

    def __init__(self, items: Items, layout: Layout, size: int, *, keep: bool, shuffle_seed: int | None = None):
        """Nothing is read yet."""
        self.items, self.layout, self.size, self.shuffle_seed = items, layout, size, shuffle_seed
        self.keep = keep and shuffle_seed is None
        self._kept: list[Batch] = []

    def __len__(self) -> int:
        """How many items there are."""
        return len(self.items.labels)

    def epoch(self, number: int) -> Iterator[Batch]:
        """All batches in the order of epoch `number`; a thread reads and lays out one ahead."""
        if self._kept:
            yield from self._kept
            return
        for batch in self._read(number):
            if self.keep:
                self._kept.append(batch)
            yield batch

    def _read(self, epoch: int) -> Iterator[Batch]:
        numbers = torch.arange(len(self))
        if self.shuffle_seed is not None:
            key = sha256(f"{self.shuffle_seed}:{epoch}".encode()).digest()
            drawn = torch.Generator().manual_seed(int.from_bytes(key[:7]))
            numbers = torch.randperm(len(self), generator=drawn)

        def made(part: torch.Tensor) -> Batch:
            return self.layout.lay_out(self.items.read(part), self.items.labels[part])

        context = copy_context()  # of `default_products`, which a thread does not see by itself
        with ThreadPoolExecutor(max_workers=1) as thread:
            parts = iter(torch.split(numbers, self.size))
            ahead = thread.submit(context.run, made, next(parts))
            for part in parts:
                current, ahead = ahead, thread.submit(context.run, made, part)
                yield current.result()
            yield ahead.result()
