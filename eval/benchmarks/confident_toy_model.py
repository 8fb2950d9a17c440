"""A small language model with confident answers, trained in seconds, for counting the nodes of an exact top-1.

Each class has a random feature; an "image" is that feature with noise, as one embedding after a start token. A LLaMA of
two layers learns to generate the class name after it. Token ids are renumbered to those that occur in names, which does
not change the tree of names but makes the head small.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from eval.class_scores.trie import ClassTrie
from eval.models.class_likelihood.tree_forward import TreeForward

HIDDEN = 96
BATCH = 128
NOISE = 0.6  # standard deviation, against features of standard deviation 1


@dataclass
class ConfidentToyModel:
    """The trained model as a tree forward, the tree of names, and the features that its images are made of."""

    tree: TreeForward
    trie: ClassTrie
    features: torch.Tensor  # (classes, HIDDEN)
    start: torch.Tensor  # (HIDDEN,)

    def images(self, count: int, seed: int = 1) -> tuple[torch.Tensor, NDArray[np.int64]]:
        """(count, 2, HIDDEN) prompts that are not in the training data, and their classes."""
        drawn = torch.Generator().manual_seed(seed)
        labels = torch.randint(len(self.features), (count,), generator=drawn)
        return _prompts(self.features, self.start, labels, drawn), labels.numpy()


def _prompts(features: torch.Tensor, start: torch.Tensor, labels: torch.Tensor, drawn: torch.Generator) -> torch.Tensor:
    noisy = features[labels] + NOISE * torch.randn(len(labels), HIDDEN, generator=drawn)
    return torch.stack([start.expand_as(noisy), noisy], 1)


def train_peaked(names: Sequence[Sequence[int]], steps: int = 500) -> ConfidentToyModel:
    """Train on `names` (token ids of each class) for `steps` batches; about 20 CPU seconds for ImageNet's."""
    used = {token: number for number, token in enumerate(sorted({token for name in names for token in name}))}
    small = [[used[token] for token in name] for name in names]
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=HIDDEN,
        intermediate_size=2 * HIDDEN,
        num_hidden_layers=2,
        num_attention_heads=4,
        vocab_size=len(used),
        max_position_embeddings=64,
        attn_implementation="sdpa",
    )
    model = LlamaForCausalLM(config)
    drawn = torch.Generator().manual_seed(0)
    features, start = torch.randn(len(names), HIDDEN, generator=drawn), torch.randn(HIDDEN, generator=drawn)
    tree = TreeForward(model.model, model.lm_head, model.model.embed_tokens, model.config)
    tokens, mask = _padded(small)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    for _ in range(steps):
        labels = torch.randint(len(names), (BATCH,), generator=drawn)
        loss = _loss(tree, _prompts(features, start, labels, drawn), tokens[labels], mask[labels])
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    return ConfidentToyModel(tree, ClassTrie(small), features, start)


def _padded(names: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """(classes, longest) padded tokens, and whether each is a token of the name."""
    longest = max(map(len, names))
    tokens = torch.tensor([[*name, *[0] * (longest - len(name))] for name in names])
    return tokens, torch.tensor([[place < len(name) for place in range(longest)] for name in names])


def _loss(tree: TreeForward, prompts: torch.Tensor, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    length = int(mask.sum(1).max())
    tokens, mask = tokens[:, :length], mask[:, :length]
    embeddings = torch.cat([prompts, tree.words(tokens[:, :-1])], 1)
    states = tree.decoder(inputs_embeds=embeddings, use_cache=False).last_hidden_state
    logits = tree.head(states[:, prompts.shape[1] - 1 :][mask])
    return F.cross_entropy(logits, tokens[mask])
