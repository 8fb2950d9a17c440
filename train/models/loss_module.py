"""The module that DeepSpeed trains: a batch in, its weighted loss out.

Tensor shapes: `B` rows, `T` tokens a row, `C` conversations, `H` hidden size, `V` vocabulary, `M` target tokens.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from train.chat.conversation import IGNORE_INDEX
from train.models.batch import Batch
from train.models.embedded import Embedded
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

    def forward(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the weighted loss (scalar, fp32) and each conversation's unweighted sum of cross entropy (C,)."""
        is_target = batch.labels[:, 1:] != IGNORE_INDEX
        rows, positions = is_target.nonzero(as_tuple=True)  # (M,): position t predicts token t + 1
        predicted = (rows, positions + 1)
        states, anchor = self.states(batch, self._embeddings, rows, positions)  # (M, H)
        logits = self.family.head(self.model)(states)  # (M, V): the head runs where it is needed only
        losses = F.cross_entropy(logits.float(), batch.labels[predicted], reduction="none")  # (M,)
        loss = (losses * batch.weights[predicted]).sum()
        by_sample = torch.zeros(len(batch.ids), device=losses.device)
        by_sample.index_add_(0, batch.sequence_ids[predicted], losses.detach())
        return loss + 0.0 * anchor, by_sample  # 0 x anchor keeps the graph whole where there is no target

    def _embeddings(self, batch: Batch) -> Embedded:
        """Token embeddings with the image features placed among them."""
        if len(batch.images):
            return self.family.embed(self.model, batch.input_ids, batch.images)
        embeddings: torch.Tensor = self.family.word_embeddings(self.model)(batch.input_ids)
        dummy = self.family.dummy_images().to(embeddings.device)
        features = self.family.encode_layers(self.model, dummy, embeddings.dtype)
        return Embedded(embeddings + 0.0 * torch.stack([part.sum() for part in features]).sum())
