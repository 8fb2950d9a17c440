"""What a decoder takes for the questions of a batch: embeddings, mask and positions.

Tensor shapes: `B` questions, `T` tokens of the longest, `H` hidden size.
"""

from dataclasses import dataclass
from typing import Any

import torch

from train.models.embedded import Embedded


@dataclass(frozen=True)
class DecoderInput:
    """Questions padded on the left where `mask` (B, T) is 0.

    `positions` are (B, T), or (axes, B, T) where a token has several (`Family.positions`).
    """

    embedded: Embedded
    mask: torch.Tensor
    positions: torch.Tensor

    @classmethod
    def of(
        cls, embedded: Embedded, mask: torch.Tensor | None = None, positions: torch.Tensor | None = None
    ) -> "DecoderInput":
        """Without `mask` no token is padding; without `positions` each row's first real token has 0, the next 1, …"""
        if mask is None:
            mask = torch.ones(embedded.states.shape[:2], dtype=torch.long, device=embedded.states.device)
        return cls(embedded, mask, (mask.cumsum(1) - 1).clamp(min=0) if positions is None else positions)

    @property
    def states(self) -> torch.Tensor:
        """(B, T, H) embeddings."""
        return self.embedded.states

    @property
    def arguments(self) -> dict[str, Any]:
        """The decoder's arguments of transformers."""
        return {"attention_mask": self.mask, "position_ids": self.positions, **self.embedded.arguments}

    @property
    def next_positions(self) -> torch.Tensor:
        """(B,) the position of the token that follows each question: one more than the highest before it."""
        highest = self.positions.amax(-1)
        return (highest.amax(0) if highest.ndim > 1 else highest) + 1

    def continued(self, words: torch.Tensor) -> dict[str, Any]:
        """The decoder's arguments for this single question followed by each row of `words` (B, n, H), without a mask.

        Causal attention needs none: what is padded at a row's end is behind all that counts.
        """
        rows, count = words.shape[:2]
        after = self.next_positions[:, None] + torch.arange(count, device=words.device)  # (1, n)
        positions = torch.cat([self.positions, after.expand(*self.positions.shape[:-1], -1)], -1)
        shape = (*self.positions.shape[:-2], rows, positions.shape[-1])
        return {"position_ids": positions.expand(shape), **self.embedded.continued(words).arguments}
