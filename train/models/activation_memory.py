"""How much memory the activations of a decoder take, counted on a model without storage (PyTorch's meta device).

    per_token = layer_bytes_per_token(model, family, torch.bfloat16)     # what one layer keeps for its backward pass

Counted are the tensors that autograd saves in a decoder layer as training runs it (`target_states.run_layer`), each
storage once, weights not. The attention counts as a flash kernel, which keeps its inputs, its output and one number per
token and head. Fused layers (`model.kernels`) keep less; with LoRA, about as much.
"""

from typing import Any

import torch

from train.models.llama_layers import after_attention, is_supported, queries_keys_values, rotary_angles
from train.models.types import Family

SAMPLE_TOKENS = 64  # the count is proportional to the number of tokens


class _FlashAttention(torch.autograd.Function):
    """Keeps what a flash kernel keeps; computes nothing."""

    @staticmethod
    def forward(ctx: Any, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        output = torch.empty_like(queries)
        sums = torch.empty(queries.shape[:3], dtype=torch.float32, device=queries.device)
        ctx.save_for_backward(queries, keys, values, output, sums)
        return output

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:  # noqa: ARG004
        raise AssertionError("counted, never run")


def layer_bytes_per_token(model: Any, family: Family, dtype: torch.dtype, *, selective: bool = False) -> float | None:
    """Bytes a token that the first decoder layer of `model` keeps; None for a decoder that is not of LLaMA's type.

    `model` is on the meta device, with its trainable parameters chosen. With `selective` checkpointing a layer keeps
    its input and what its attention keeps. What does not grow with the tokens, as DoRA's norms of weights, is not
    counted: it is not kept.
    """
    decoder: Any = family.decoder(model)
    if not is_supported(decoder, longest=0):  # a window changes no size
        return None
    few, many = (_kept_bytes(model, decoder, dtype, count, selective) for count in (SAMPLE_TOKENS, 2 * SAMPLE_TOKENS))
    return (many - few) / SAMPLE_TOKENS


def _kept_bytes(model: Any, decoder: Any, dtype: torch.dtype, tokens: int, selective: bool) -> int:
    """Bytes that the first decoder layer keeps of a row of `tokens`."""
    layer = decoder.layers[0].to(dtype)
    states = torch.empty(1, tokens, decoder.config.hidden_size, dtype=dtype, device="meta", requires_grad=True)
    positions = torch.arange(tokens, device="meta")[None]
    weights = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage()._cdata not in weights:
            kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    masks: list[int] = []  # elements; PyTorch's meta device keeps a dropout mask in `dtype`, a GPU in 1 byte
    dropouts = [part for part in layer.modules() if isinstance(part, torch.nn.Dropout) and part.p and part.training]
    hooks = [part.register_forward_hook(lambda *call: masks.append(call[2].numel())) for part in dropouts]
    angles = rotary_angles(decoder, states.detach(), positions)
    angle_storages = {angle.untyped_storage()._cdata for angle in angles}  # one for all layers
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        finished = _attended(queries_keys_values(layer, states, angles))
        if selective:
            keep(states)
        else:
            finished = after_attention(layer, states, finished)
    sizes = [kept[storage].untyped_storage().nbytes() for storage in kept.keys() - angle_storages]
    del finished
    for hook in hooks:
        hook.remove()
    return sum(sizes) - sum(masks) * (dtype.itemsize - 1)


def activation_bytes(
    model: Any, family: Family, dtype_name: str, checkpointing: bool | str, tokens: int, targets: int
) -> float | None:
    """Bytes of a micro-batch of `tokens`, `targets` of them supervised; None where they cannot be counted.

    A target keeps its logits in the model's precision and in fp32, and their softmax. With full activation
    `checkpointing` a layer keeps its input only; where anything is recomputed, one layer at a time is whole. Nothing is
    counted where the vision tower trains: its activations are kept as well.
    """
    dtype = torch.bfloat16 if dtype_name == "bf16" else torch.float32
    whole = layer_bytes_per_token(model, family, dtype)
    trained = {family.part_of(name) for name, parameter in model.named_parameters() if parameter.requires_grad}
    if whole is None or "vision" in trained:
        return None
    text = family.text_config
    kept, again = whole, 0.0
    if checkpointing == "selective":
        kept, again = layer_bytes_per_token(model, family, dtype, selective=True) or 0.0, whole
    elif checkpointing is True:
        kept, again = text.hidden_size * dtype.itemsize, whole
    decoder = tokens * (kept * text.num_hidden_layers + again)
    return float(decoder + targets * text.vocab_size * (dtype.itemsize + 8))


def _attended(parts: tuple[torch.Tensor, ...]) -> torch.Tensor:
    attended: torch.Tensor = _FlashAttention.apply(*parts)  # type: ignore[no-untyped-call]
    return attended
