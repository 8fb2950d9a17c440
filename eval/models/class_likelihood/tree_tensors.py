"""A tree of names as tensors on one device, so that of each round only the numbers of its nodes are transferred.

Tensor shapes: `B` images (1 where all have the same nodes), `N` nodes at a time, `S` slots in use, `D` depth of the
tree.
"""

from dataclasses import dataclass

import torch

from eval.class_scores.trie import ROOT, ClassTrie

NOTHING = -2  # fills the paths of nodes above the deepest; ROOT is the node of a padding slot


@dataclass(frozen=True)
class TreeTensors:
    """By node, and at last for `ROOT`: `tokens`, `depths` and `paths` (nodes, D): itself and what is above it."""

    tokens: torch.Tensor
    depths: torch.Tensor
    paths: torch.Tensor

    @classmethod
    def of(cls, trie: ClassTrie, device: torch.device) -> "TreeTensors":
        """Move the tree to the device."""
        paths = [[*trie.ancestors(node), node] for node in range(len(trie.tokens))] + [[ROOT]]
        filled = [[*path, *[NOTHING] * (trie.depth - len(path))] for path in paths]
        return cls(
            torch.tensor([*trie.tokens, 0], device=device),
            torch.tensor([*trie.depths, 1], device=device),
            torch.tensor(filled, device=device),
        )

    def visible(self, nodes: torch.Tensor, held: torch.Tensor) -> torch.Tensor:
        """(B, N, S + N) bool: whether each of `nodes` (B, N) sees the nodes `held` (B, S + N) in the slots.

        A node sees its ancestors and itself; padding sees padding, so that no row of a mask is empty.
        """
        seen = torch.zeros(*nodes.shape, held.shape[1], dtype=torch.bool, device=held.device)
        for step in self.paths.unbind(1):
            seen |= step[nodes][..., None] == held[:, None]
        return seen
