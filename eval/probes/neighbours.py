"""The training items whose stored states are most similar to those of each test item, and what they vote for.

Similarities are computed in float64, in blocks, and rounded to a grid far coarser than their error, so that neither
blocks nor threads nor devices change a neighbour. Of equally similar training items the one whose id has the smaller
hash is nearer; of classes with equally many votes, the one with the nearest neighbour wins. A state of only zeros has
cosine 0 with every other.

Shapes: `N` test items, `M` training items, `F` token positions, `K` neighbours, `H` size of a state.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from data_prep.progress import progress_bar
from eval.probes.store import StoredStates

BLOCK_BYTES = 2**27  # of the states of a block, and of the similarities of two blocks: under 1 GB in all
GRID = 2**20  # steps of the similarity from 0 to 1
FARTHEST = 2**30  # steps; with the bits of an item's number, a key is below NOBODY
NOBODY = torch.iinfo(torch.int64).max
INDEX_BITS = 32
VOTED_BLOCK = 4096


@dataclass(frozen=True, slots=True)
class Neighbours:
    """`items` (F, N, K) are numbers of training items, the nearest first; `similarities` (F, N, K) are float64."""

    items: torch.Tensor
    similarities: torch.Tensor


def nearest(
    train: StoredStates, test: StoredStates, columns: Sequence[int], k: int, metric: str, *, leave_one_out: bool = False
) -> Neighbours:
    """The `k` most similar training items of each test item, at each of the positions numbered `columns`.

    With `leave_one_out`, an item is no neighbour of itself: both are then of one source. k is at most M, or M - 1 then.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    norms = _all_norms(train, columns)
    scale = _Scale.of(metric, norms)
    best = torch.full((len(columns), len(test), k), NOBODY)
    ids, own_ids = (torch.from_numpy(part.hashes.astype(np.int64)) for part in (train, test))
    blocks = math.ceil(len(train) / block_size(len(columns), train.row_format.size))
    for first, known in progress_bar(
        _blocks(train, columns, device), name="neighbours", unit="blocks", total=blocks, keep=False
    ):
        rows = slice(first, first + known.shape[1])
        numbers = torch.arange(rows.start, rows.stop, device=device)
        for start, asked in _blocks(test, columns, device):
            here = slice(start, start + asked.shape[1])
            keys = (scale.steps(asked, known).to(torch.int64) << INDEX_BITS) + numbers
            if leave_one_out:
                keys[:, own_ids[here, None] == ids[None, rows]] = NOBODY
            found = torch.cat([best[:, here].to(device), keys], 2)
            best[:, here] = found.topk(k, largest=False, sorted=True).values.cpu()
    similarities = scale.similarity(best >> INDEX_BITS, _all_norms(test, columns))
    return Neighbours(best & (2**INDEX_BITS - 1), similarities)


@dataclass(frozen=True, slots=True)
class _Scale:
    """Similarities in steps of the grid; `mean` and `usual` (F,) are of the training states' squared norms.

    The steps of `l2` follow from the usual norm, the median: a few enormous states would make all others equal. What is
    farther away than `FARTHEST` steps is equally far.
    """

    metric: str
    mean: torch.Tensor
    usual: torch.Tensor

    @classmethod
    def of(cls, metric: str, norms: torch.Tensor) -> "_Scale":
        """That of training states with the squared `norms` (F, M)."""
        mean, median = norms.mean(1), norms.median(1).values
        return cls(metric, mean, torch.where(median > 0, median, mean))

    def steps(self, asked: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
        """(F, N, M) whole numbers as float64, at most `FARTHEST`: 0 for equal states. Both are (F, _, H)."""
        if self.metric == "cosine":
            unit = [torch.nn.functional.normalize(states, dim=2) for states in (asked, known)]
            return ((1 - unit[0] @ unit[1].transpose(1, 2)).clamp_(0, 2) * GRID).round_()
        own, theirs = _squared_norms(asked), _squared_norms(known)
        squares = own[:, :, None] + theirs[:, None] - 2 * (asked @ known.transpose(1, 2))
        unit_of_query = own + self.usual.to(own)[:, None]
        shares = squares.clamp_(min=0) / unit_of_query[:, :, None].clamp(min=1e-30)
        return (shares * GRID).clamp_(max=FARTHEST).round_()

    def similarity(self, steps: torch.Tensor, squared_norms: torch.Tensor) -> torch.Tensor:
        """(F, N, K) float64 of (F, N, K) steps; `squared_norms` (F, N) of the test states."""
        share = steps.double() / GRID
        if self.metric == "cosine":
            return 1 - share
        unit_of_query = squared_norms + self.usual[:, None]
        return 1 - share * unit_of_query[:, :, None] / (2 * self.mean.clamp(min=1e-30))[:, None, None]


def block_size(positions: int, size: int) -> int:
    """Items of a block whose states, and whose similarities to another block, take at most `BLOCK_BYTES`.

    >>> block_size(2, 4096), block_size(11, 4096), block_size(1, 48)
    (2048, 372, 4096)
    """
    return max(1, min(BLOCK_BYTES // (positions * size * 8), math.isqrt(BLOCK_BYTES // (positions * 8))))


def _blocks(stored: StoredStates, columns: Sequence[int], device: str) -> Iterator[tuple[int, torch.Tensor]]:
    """(number of the first item, (F, n, H) float64) of every block of items."""
    size = block_size(len(columns), stored.row_format.size)
    for start in range(0, len(stored), size):
        rows = torch.arange(start, min(start + size, len(stored)))
        yield start, stored.read(rows, columns).transpose(0, 1).to(device).double()


def _all_norms(stored: StoredStates, columns: Sequence[int]) -> torch.Tensor:
    """(F, N) squared norms of all states."""
    return torch.cat([_squared_norms(block) for _, block in _blocks(stored, columns, "cpu")], 1)


def _squared_norms(states: torch.Tensor) -> torch.Tensor:
    return states.square().sum(2)


def voted(labels: torch.Tensor, similarities: torch.Tensor, classes: int, temperature: float | None) -> torch.Tensor:
    """(N,) the class that K neighbours of each item vote for; `labels` and `similarities` are (N, K), nearest first.

    With `temperature`, a vote counts exp(similarity / temperature); None: all count alike.
    """
    parts = []
    for start in range(0, len(labels), VOTED_BLOCK):
        names, alike = labels[start : start + VOTED_BLOCK], similarities[start : start + VOTED_BLOCK]
        weights = torch.ones_like(alike)
        if temperature is not None:
            weights = ((alike - alike[:, :1]) / temperature).exp()  # relative to the nearest: no overflow
        votes = torch.zeros(len(names), classes, dtype=alike.dtype).scatter_add_(1, names, weights)
        of_each = votes.gather(1, names)
        winner = (of_each == of_each.amax(1, keepdim=True)).int().argmax(1, keepdim=True)  # the first of equal ones
        parts.append(names.gather(1, winner)[:, 0])
    return torch.cat(parts) if parts else labels.new_empty(0)
