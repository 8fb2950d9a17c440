"""Class scores computed slowly and simply: the reference for the tree scorer.

- `full_forward`: one forward pass of prompt and name for every name.
- `cached_loop`: the authors' loop (`inference_analysis/main.py`): the prompt once, then every name token by token with
  the prompt's cached keys and values. With current transformers their cache keeps the tokens of earlier names, which
  makes the scores of all names but the first wrong; here each name starts from the prompt's cache.

Tensor shapes: `P` tokens of the prompt, `T` tokens of prompt and name, `H` hidden size, `V` vocabulary.
"""

from collections.abc import Sequence

import torch
from transformers import DynamicCache

from eval.models.class_likelihood.tree_forward import TreeForward


@torch.inference_mode()
def full_forward(tree: TreeForward, embeddings: torch.Tensor, name: Sequence[int]) -> list[float]:
    """Log-probabilities of a name's tokens after a prompt (1, P, H): one forward pass, logits at every position."""
    tokens = torch.tensor([name], device=embeddings.device)
    whole = torch.cat([embeddings, tree.words(tokens)], 1)  # (1, T, H)
    states = tree.decoder(inputs_embeds=whole, use_cache=False).last_hidden_state
    logits = tree.head(states)[0].float().log_softmax(-1)  # (T, V)
    start = embeddings.shape[1] - 1
    return [float(logits[start + place, token]) for place, token in enumerate(name)]


@torch.inference_mode()
def cached_loop(tree: TreeForward, embeddings: torch.Tensor, names: Sequence[Sequence[int]]) -> list[list[float]]:
    """The same for all names with one cache of the prompt: one forward pass per token; the last result is not used.

    As in their loop, every step gets a mask of ones. Restoring the cache costs nothing, as in their transformers, where
    a step copied the prompt's keys and left the originals unchanged.
    """
    cache = DynamicCache()
    states = tree.decoder(inputs_embeds=embeddings, past_key_values=cache, use_cache=True).last_hidden_state
    first, length = tree.head(states[:, -1]), embeddings.shape[1]
    prompt = [(layer.keys, layer.values) for layer in cache.layers]
    ones = torch.ones(1, length + max(map(len, names), default=0), dtype=torch.long, device=embeddings.device)
    results = []
    for name in names:
        for layer, (own_keys, own_values) in zip(cache.layers, prompt, strict=True):
            layer.keys, layer.values = own_keys, own_values
        logits, values = first, []
        for place, token in enumerate(name):
            values.append(float(logits.float().log_softmax(-1)[0, token]))
            states = tree.decoder(
                inputs_embeds=tree.words(torch.tensor([[token]], device=embeddings.device)),
                attention_mask=ones[:, : length + place + 1],
                past_key_values=cache,
                use_cache=True,
            ).last_hidden_state
            logits = tree.head(states[:, -1])
        results.append(values)
    return results
