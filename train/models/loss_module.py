"""The module that DeepSpeed trains: a batch in, its weighted loss out.

Tensor shapes: `B` rows, `T` tokens a row, `C` conversations, `H` hidden size, `V` vocabulary, `M` target tokens.
"""

from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from train.chat.conversation import IGNORE_INDEX
from train.models.batch import Batch
from train.models.embedded import Embedded
from train.models.linear_probe import LinearProbe, probe_of
from train.models.target_states import ForwardOptions, TargetStates
from train.models.trainable import TrainableFamily


class LossModule(nn.Module):
    """Runs vision tower, projector and decoder on every micro-batch, also on one without images.

    A micro-batch without an image gets a dummy one whose features count zero times: otherwise its loss would have
    no path to the projector, and ZeRO-3's collectives would wait for the ranks that have one.
    """

    def __init__(self, model: Any, family: TrainableFamily, options: ForwardOptions = ForwardOptions()):  # noqa: B008
        """`model` is one of the `family`."""
        super().__init__()
        self.model = model
        self.family = family
        self.states = TargetStates(model, family, options)

    def forward(self, batch: Batch) -> tuple[torch.Tensor, ...]:
        """Return the weighted loss (scalar, fp32) and each conversation's unweighted sum of cross entropy (C,).

        With a linear probe (`loss.probe`), the loss includes its part, and a third tensor (C,) has the unweighted
        cross entropy of each conversation's class, 0 where it has none.
        """
        is_target = batch.labels[:, 1:] != IGNORE_INDEX
        probe = probe_of(self.model)
        if probe is None:
            rows, positions = is_target.nonzero(as_tuple=True)  # (M,): position t predicts token t + 1
            states, anchor = self.states(batch, self._embeddings, rows, positions)  # (M, H)
            loss, by_sample = self._language_loss(batch, states, (rows, positions + 1))
            return loss + 0.0 * anchor, by_sample  # 0 x anchor keeps the graph whole where there is no target
        places = _probe_places(batch)
        rows, positions = (is_target | places[:, :-1]).nonzero(as_tuple=True)
        states, anchor = self.states(batch, self._embeddings, rows, positions)
        target, probed = is_target[rows, positions], places[rows, positions]
        loss, by_sample = self._language_loss(batch, states[target], (rows[target], positions[target] + 1))
        class_loss, by_class = _class_loss(probe, batch, states[probed], batch.sequence_ids[rows, positions][probed])
        return loss + class_loss + 0.0 * anchor, by_sample, by_class

    def _language_loss(
        self, batch: Batch, states: torch.Tensor, predicted: tuple[torch.Tensor, torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The weighted loss and each conversation's sum (C,); `states` (M, H) predict the tokens at `predicted`."""
        logits = self.family.head(self.model)(states)  # (M, V): the head runs where it is needed only
        losses = F.cross_entropy(logits.float(), batch.labels[predicted], reduction="none")  # (M,)
        loss = (losses * batch.weights[predicted]).sum()
        by_sample = torch.zeros(len(batch.ids), device=losses.device)
        by_sample.index_add_(0, batch.sequence_ids[predicted], losses.detach())
        return loss, by_sample

    def _embeddings(self, batch: Batch) -> Embedded:
        """Token embeddings with the image features placed among them, and a linear probe's tokens."""
        embedded, probe = self._words_and_images(batch), probe_of(self.model)
        if probe is None:
            return embedded
        return replace(embedded, states=probe.token(embedded.states, _probe_places(batch)))

    def _words_and_images(self, batch: Batch) -> Embedded:
        if len(batch.images):
            return self.family.embed(self.model, batch.input_ids, batch.images)
        embeddings: torch.Tensor = self.family.word_embeddings(self.model)(batch.input_ids)
        dummy = self.family.dummy_images().to(embeddings.device)
        features = self.family.encode_layers(self.model, dummy, embeddings.dtype)
        return Embedded(embeddings + 0.0 * torch.stack([part.sum() for part in features]).sum())


def _probe_places(batch: Batch) -> torch.Tensor:
    """(B, T): where the tokens of a linear probe are."""
    return torch.zeros_like(batch.input_ids, dtype=torch.bool) if batch.probe_tokens is None else batch.probe_tokens


def _class_loss(
    probe: LinearProbe, batch: Batch, states: torch.Tensor, conversations: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The probe's weighted loss, and each conversation's cross entropy (C,), from the tokens' `states` (M, H).

    The head runs without a token too: in ZeRO 3 all ranks run the same modules.
    """
    logits = probe.head(states)  # (M, C classes)
    by_sample = torch.zeros(len(batch.ids), device=logits.device)
    if batch.probe_classes is None:
        return logits.float().sum(), by_sample  # of no element: 0
    classes = batch.probe_classes[conversations]
    losses = F.cross_entropy(logits.float(), classes, ignore_index=-1, reduction="none")  # (M,), 0 without a class
    by_sample.index_add_(0, conversations, losses.detach())
    if batch.probe_weights is None:
        return 0.0 * losses.sum(), by_sample
    return (losses * batch.probe_weights[conversations]).sum(), by_sample
