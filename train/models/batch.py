"""A micro-batch as the model takes it, and the attention of its conversations.

Tensor shapes: `B` rows, `T` tokens a row, `C` conversations (`B` of them unless packed), `N` images.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from data_prep.sample import UnreadableSample
from train.chat.conversation import IGNORE_INDEX
from train.models.images import ImageBatch


@dataclass
class Batch:
    """One micro-batch of one rank: `C` conversations, one a row padded on the right, or packed into a single row.

    The loss is the sum over tokens of weight x cross entropy: `weights` carries its whole normalization, and is 0 on
    padding and on tokens that are no target. `sources` numbers the data source of each conversation.
    """

    input_ids: torch.Tensor  # (B, T) int64, images expanded
    attention_mask: torch.Tensor  # (B, T) int64, 0 on padding
    labels: torch.Tensor  # (B, T) int64, IGNORE_INDEX where nothing is learned, and at the first token of each
    weights: torch.Tensor  # (B, T) float32
    sequence_ids: torch.Tensor  # (B, T) int64, the conversation (0 to C - 1) that a token belongs to, -1 on padding
    images: ImageBatch  # N, made by the model's family
    sources: torch.Tensor  # (C,) int64
    ids: tuple[str, ...]  # C
    unreadable: tuple[UnreadableSample, ...] = ()  # each is replaced by an example of weight 0
    packed: bool = False
    process_last_token: bool = True  # of each conversation: it predicts nothing, but may be an image's
    positions: torch.Tensor | None = None  # (axes, B, T) int64, where `Family.positions` gives any
    sample_weights: torch.Tensor | None = None  # (C,) float64, weights of the conversations' losses; None: all are 1
    probe_tokens: torch.Tensor | None = None  # (B, T) bool, the token of a linear probe; None: no conversation has one
    probe_classes: torch.Tensor | None = None  # (C,) int64, the class that the probe learns, -1 for none
    probe_weights: torch.Tensor | None = None  # (C,) float32, set by `train.probe_loss`; None: as 0
    shared_prefix: int = 0  # tokens that begin every conversation, as in every other batch (`train.chat.prefix`)

    def pin_memory(self) -> "Batch":
        """The same batch in page-locked memory, from where it is copied to a GPU without waiting (called by torch)."""
        return self._with(torch.Tensor.pin_memory)

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch with its tensors on `device`."""
        return self._with(lambda tensor: tensor.to(device, non_blocking=True))

    def with_tokens(self, rows: Any, columns: Any) -> "Batch":
        """The same batch with these rows and columns of its (B, T) tensors only."""
        names = ("input_ids", "attention_mask", "labels", "weights", "sequence_ids")
        chosen = {name: getattr(self, name)[rows, columns] for name in names}
        if self.probe_tokens is not None:
            chosen["probe_tokens"] = self.probe_tokens[rows, columns]
        return replace(self, **chosen)

    def _with(self, change: Callable[[torch.Tensor], torch.Tensor]) -> "Batch":
        tensors: dict[str, Any] = {
            name: change(value) for name, value in vars(self).items() if isinstance(value, torch.Tensor)
        }
        return replace(self, images=self.images.apply(change), **tensors)

    def lengths(self) -> torch.Tensor:
        """(C,) tokens of each conversation."""
        return torch.bincount(self.sequence_ids[self.sequence_ids >= 0], minlength=len(self.ids))

    def supervised(self) -> torch.Tensor:
        """(C,) supervised tokens of each conversation: those that the token before them predicts."""
        return torch.bincount(self.sequence_ids[:, 1:][self.labels[:, 1:] != IGNORE_INDEX], minlength=len(self.ids))


def attention_arguments(batch: Batch, kernel: str, dtype: torch.dtype) -> dict[str, torch.Tensor | None]:
    """What the decoder needs so that each conversation sees itself only, as if it were alone.

    transformers recognises packed conversations by positions that start at 0 again, but only without a mask; its flash
    attention then runs each by itself. The other kernels take an additive mask (1, 1, T, T) as it is.
    """
    if not batch.packed:
        return {"attention_mask": batch.attention_mask}
    sequence_ids = batch.sequence_ids[0]  # (T,)
    starts = torch.cumsum(batch.lengths(), 0) - batch.lengths()  # (C,)
    index = torch.arange(len(sequence_ids), device=sequence_ids.device)
    positions = (index - starts[sequence_ids]).unsqueeze(0)  # (1, T)
    if kernel.startswith("flash_attention"):
        return {"attention_mask": None, "position_ids": positions}
    visible = (sequence_ids[:, None] == sequence_ids[None, :]) & (index[:, None] >= index[None, :])  # (T, T)
    mask = torch.zeros(visible.shape, dtype=dtype, device=sequence_ids.device)
    mask = mask.masked_fill(~visible, torch.finfo(dtype).min)
    return {"attention_mask": mask[None, None], "position_ids": positions}
