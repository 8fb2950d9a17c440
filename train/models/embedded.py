"""Token embeddings with image features among them, as a decoder takes them.

Tensor shapes: `B` rows, `T` tokens a row, `P` tokens of an image, `H` hidden size.
"""

from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Embedded:
    """(B, T, H) embeddings, and features that are added to the results of the first decoder layers.

    Such features (DeepStack, arXiv 2406.04334) come from earlier layers of the vision tower: `added[n]`, (sum of P, H),
    is added after decoder layer n at the image positions `places` (B, T).
    """

    states: torch.Tensor
    places: torch.Tensor | None = None
    added: tuple[torch.Tensor, ...] = ()

    @property
    def arguments(self) -> dict[str, Any]:
        """The decoder's arguments of transformers, besides mask and positions."""
        features = {"visual_pos_masks": self.places, "deepstack_visual_embeds": list(self.added)} if self.added else {}
        return {"inputs_embeds": self.states, **features}

    def continued(self, words: torch.Tensor) -> "Embedded":
        """The single row of this, followed by each row of `words` (B, T, H)."""
        rows = len(words)
        states = torch.cat([self.states.expand(rows, -1, -1), words], 1)
        if self.places is None:
            return Embedded(states)
        places = torch.cat([self.places.expand(rows, -1), self.places.new_zeros(words.shape[:2])], 1)
        return Embedded(states, places, tuple(features.repeat(rows, 1) for features in self.added))
