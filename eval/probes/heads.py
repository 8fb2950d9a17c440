"""Linear heads on stored features, trained for all token positions at once.

Every head gets the same items in the same order, so one step of one Adam updates all heads, and one pass over the items
is enough for all of them. The authors train one head after another and evaluate training and test items after every
epoch (three quarters of their time). Here only the items that choose the epoch are evaluated after an epoch. With the
same batches the heads are identical: a test compares them.

Shapes: `N` items, `F` token positions (heads), `G` of a group, `B` batch, `H` size of a state, `C` classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from configs.probe import ProbeConfig
from data_prep.progress import progress_bar
from eval.probes.batches import Batch, Batches

Heads = Sequence[tuple[torch.Tensor, torch.Tensor]]  # of each group: weights (G, C, H), biases (G, C, 1)


@dataclass(frozen=True)
class Trained:
    """Heads as they were after the epochs that the `check` items chose, the first of equal ones, or after the last.

    `epochs` (F,) counts from 0; `weights` (F, C, H) and `biases` (F, C, 1) are those of that epoch. `correct` (F,) and
    `correct_at_the_end` (F,) say how many of `check` each head classified correctly then and after the last epoch;
    None without `check`.
    """

    epochs: torch.Tensor
    weights: torch.Tensor
    biases: torch.Tensor
    correct: torch.Tensor | None
    correct_at_the_end: torch.Tensor | None

    def hits(self, items: Batches) -> torch.Tensor:
        """(F, N) which of `items` each head classifies correctly, on the CPU."""
        heads = _grouped(self.weights, self.biases, items.layout.group(len(self.weights)))
        return torch.cat([_hits(batch, heads).cpu() for batch in items.epoch(0)], 1)


@torch.no_grad()
def train_heads(train: Batches, check: Batches | None, classes: int, settings: ProbeConfig) -> Trained:
    """Train all heads on `train` for `settings.epochs`, each kept as it was after its best epoch on `check`."""
    positions, size = train.items.read(torch.arange(1)).shape[1:]
    device = train.layout.device
    initial = [tensor.to(device) for tensor in initial_heads(positions, size, classes, settings.seed)]
    weights, biases = (part.clone() for part in initial)
    heads = _grouped(weights, biases, train.layout.group(positions))
    adam = torch.optim.Adam([part for head in heads for part in head], lr=settings.learning_rate, fused=True)
    best = torch.full((positions,), -1, device=device)
    chosen, correct, kept = best.clone(), best, initial
    for epoch in progress_bar(range(settings.epochs), name="heads", unit="epochs", keep=False):
        for batch in train.epoch(epoch):
            head_gradients(batch, heads)
            adam.step()
        if check is None:
            continue
        correct = torch.stack([_hits(batch, heads).sum(1) for batch in check.epoch(0)]).sum(0)
        better = correct > best
        best, chosen = torch.where(better, correct, best), torch.where(better, epoch, chosen)
        for head in better.nonzero().flatten().tolist():
            kept[0][head], kept[1][head] = weights[head], biases[head]
    if check is not None:
        return Trained(chosen, kept[0], kept[1], best, correct)
    return Trained(torch.full_like(chosen, settings.epochs - 1), weights, biases, None, None)


def _grouped(weights: torch.Tensor, biases: torch.Tensor, together: int) -> Heads:
    """The heads in groups of `together`; the groups are parts of the tensors, not copies."""
    starts = range(0, len(weights), together)
    return [(weights[start : start + together], biases[start : start + together]) for start in starts]


def initial_heads(positions: int, size: int, classes: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights (F, C, H) and biases (F, C, 1) as `nn.Linear` draws them, every head its own."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = [nn.Linear(size, classes) for _ in range(positions)]
    weights = torch.stack([layer.weight.detach() for layer in layers])
    return weights, torch.stack([layer.bias.detach()[:, None] for layer in layers])


def head_gradients(batch: Batch, heads: Heads) -> None:
    """Put the gradients of each head's mean cross entropy on a batch into `grad`: written out, two products."""
    columns = torch.arange(len(batch.labels), device=batch.labels.device)
    for group, (weights, biases) in enumerate(heads):
        gradient = batch.logits(group, weights).add_(biases).softmax(1)  # (G, C, B)
        gradient[:, batch.labels, columns] -= 1
        gradient /= len(columns)
        weights.grad, biases.grad = batch.weight_gradient(group, gradient), gradient.sum(2, keepdim=True)


def _hits(batch: Batch, heads: Heads) -> torch.Tensor:
    """(F, B) which items of a batch each head classifies correctly."""
    found = [batch.logits(group, weights).add_(biases).argmax(1) for group, (weights, biases) in enumerate(heads)]
    return torch.cat(found) == batch.labels
