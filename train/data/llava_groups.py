"""LLaVA's order of samples: batches of one modality, of samples of similar length (`group_by_modality_length`).

Source: haotian-liu/LLaVA, llava/train/llava_trainer.py, version 1.2. A length is a sample's number of words.

1. All samples with an image are shuffled and cut into groups of a global batch; so are all without one.
2. A group is sorted, the longest sample first, and dealt into as many chunks as the global batch has micro-batches,
   each sample to the chunk with the fewest words that is not full; a group that the chunks do not divide is dealt in
   turn.
3. The groups of both kinds are shuffled, except the last one of each kind: these two come at the end, by position.
4. With samples of one kind alone, the groups stay in the order of the first shuffle.

The shuffles are `torch.randperm` of one generator: with image, without, groups; each epoch continues where the one
before ended. LLaVA's sampler gives this order after `torch.manual_seed` of the same seed. In the authors' runs on
several GPUs, accelerate 0.21 gives the sampler a generator with torch's fixed default seed, for the shuffle of groups
and for the only one in 4.; the training seed changes the other two alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

Numbers = np.ndarray[Any, np.dtype[np.int64]]
Mask = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True, eq=False)
class LlavaGroups:
    """What LLaVA's order depends on besides the seed: words and modality of every position, and how a batch is cut."""

    words: Numbers
    with_image: Mask
    micro_batch: int
    chunks: int
    """Micro-batches of a global batch: ranks x accumulation."""

    def order(self, entries: Callable[[int], Numbers], seed: int, epoch: int) -> Numbers:
        """The positions of `epoch` in LLaVA's order; `entries` gives those of any epoch in the order of the sources."""
        generator = torch.Generator().manual_seed(seed)
        for earlier in range(epoch):
            self._shuffles(self.with_image[entries(earlier)], generator)
        positions = entries(epoch)
        with_image = self.with_image[positions]
        images, texts, groups = self._shuffles(with_image, generator)
        if groups is None:
            alone: Numbers = positions[self._grouped(images if len(images) else texts, self.words[positions])]
            return alone
        kinds = [
            self._grouped(np.flatnonzero(kind)[shuffled], self.words[positions])
            for kind, shuffled in ((with_image, images), (~with_image, texts))
        ]
        size = self.micro_batch * self.chunks
        first = [kind[: (len(kind) - 1) // size * size] for kind in kinds]  # without the last group, full or not
        last = np.sort(np.concatenate([kind[len(start) :] for kind, start in zip(kinds, first, strict=True)]))
        middle = np.concatenate(first).reshape(-1, size)[groups].reshape(-1)
        order: Numbers = positions[np.concatenate([middle, last])]
        return order

    def _shuffles(self, with_image: Mask, generator: torch.Generator) -> tuple[Numbers, Numbers, Numbers | None]:
        """The three permutations that an epoch draws; the last is None where all samples are of one kind."""
        images = int(with_image.sum())
        texts, size = len(with_image) - images, self.micro_batch * self.chunks
        drawn = [_permutation(count, generator) for count in (images, texts)]
        if not images or not texts:
            return drawn[0], drawn[1], None
        return drawn[0], drawn[1], _permutation((images - 1) // size + (texts - 1) // size, generator)

    def _grouped(self, shuffled: Numbers, words: Numbers) -> Numbers:
        """`shuffled`, group after group, each dealt into chunks."""
        size = self.micro_batch * self.chunks
        whole = len(shuffled) // size * size
        parts = [_dealt(shuffled[:whole].reshape(-1, size), words, self.chunks).reshape(-1)]
        if whole < len(shuffled):
            parts.append(_dealt(shuffled[None, whole:], words, self.chunks)[0])
        return np.concatenate(parts)


def _permutation(count: int, generator: torch.Generator) -> Numbers:
    """Nothing is drawn for an empty set, as LLaVA does not sample a kind that is missing."""
    if not count:
        return np.empty(0, dtype=np.int64)
    permutation: Numbers = torch.randperm(count, generator=generator).numpy()
    return permutation


def _dealt(groups: Numbers, words: Numbers, chunks: int) -> Numbers:
    """Groups (N, S) of entries, each sorted by words and dealt into chunks, which follow each other in the result."""
    by_length = np.argsort(-words[groups], axis=1, kind="stable")
    groups = np.take_along_axis(groups, by_length, axis=1)
    count, size = groups.shape
    if size % chunks:
        return np.concatenate([groups[:, start::chunks] for start in range(chunks)], axis=1)
    room, rows = size // chunks, np.arange(count)
    loads, filled = np.zeros((count, chunks)), np.zeros((count, chunks), dtype=np.int64)
    dealt = np.empty_like(groups)
    for column in range(size):
        chosen = loads.argmin(axis=1)  # the first of equal ones
        entries = groups[:, column]
        dealt[rows, chosen * room + filled[rows, chosen]] = entries
        filled[rows, chosen] += 1
        loads[rows, chosen] += words[entries]
        loads[rows[filled[rows, chosen] == room], chosen[filled[rows, chosen] == room]] = np.inf
    return dealt
