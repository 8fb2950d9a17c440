"""How much memory the activations of a decoder take, counted on a model without storage (PyTorch's meta device).

    per_token = layer_bytes_per_token(model, family, torch.bfloat16)     # what one layer keeps for its backward pass

Counted are the tensors that autograd saves in a decoder layer as training runs it, with the operations of
`target_states` or by transformers, each storage once, weights not. The attention counts as a flash kernel, which keeps
its inputs, its output and one number per token and head. Fused layers (`model.kernels`) keep less; with LoRA, about as
much.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from transformers import AttentionInterface

from train.models.checkpointing import has_mlps, recompute_mlp
from train.models.llama_layers import after_attention, is_supported, queries_keys_values, rotary_angles
from train.models.types import Family

COUNTED = "counted"
"""The attention implementation of transformers that is counted here."""
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
    """Bytes a token that the first decoder layer of `model` keeps; None where they cannot be counted.

    That is `selective` without a module `mlp`, and a decoder that reads values before its first layer, as those with
    angles that change with the length.
    `model` is on the meta device, with its trainable parameters chosen. With `selective` checkpointing a layer keeps
    its input and what its attention keeps. What does not grow with the tokens, as DoRA's norms of weights, is not
    counted: it is not kept.
    """
    decoder: Any = family.decoder(model)
    own = is_supported(decoder, longest=0)  # a window changes no size
    if selective and not own and not has_mlps(decoder):
        return None
    run = _own_layer if own else _transformers_layer
    try:
        few, many = (
            _kept_bytes(model, run(decoder, _states(decoder, dtype, count), selective))
            for count in (SAMPLE_TOKENS, 2 * SAMPLE_TOKENS)
        )
    except _NotCounted:
        return None
    return (many - few) / SAMPLE_TOKENS


def _states(decoder: Any, dtype: torch.dtype, tokens: int) -> torch.Tensor:
    return torch.empty(1, tokens, decoder.config.hidden_size, dtype=dtype, device="meta", requires_grad=True)


@dataclass
class _Layer:
    """A decoder layer: `run` it on `states`, its input (1, T, H), which it keeps for recomputing if `recomputes`.

    `shared` are inputs that it has in common with all other layers, as the angles.
    """

    run: Callable[[], Any]
    states: torch.Tensor
    shared: tuple[Any, ...]
    recomputes: bool = False


def _kept_bytes(model: Any, layer: _Layer) -> int:
    ignored = {tensor.untyped_storage()._cdata for tensor in (*model.parameters(), *_tensors(layer.shared))}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage()._cdata not in ignored:
            kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    masks = _DropoutMasks()
    with masks, torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        finished = layer.run()
        if layer.recomputes:
            keep(layer.states)
    size = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    del finished  # until here, no storage is another's
    return size - masks.elements * (layer.states.dtype.itemsize - 1)


def _own_layer(decoder: Any, states: torch.Tensor, selective: bool) -> _Layer:
    """As `target_states` runs a layer; with `selective`, all behind the attention is recomputed."""
    layer = decoder.layers[0].to(states.dtype)
    angles = rotary_angles(decoder, states.detach(), torch.arange(states.shape[1], device="meta")[None])

    def run() -> torch.Tensor:
        attended = _attended(*queries_keys_values(layer, states, angles))
        return attended if selective else after_attention(layer, states, attended)

    return _Layer(run, states, angles, recomputes=selective)


def _transformers_layer(decoder: Any, states: torch.Tensor, selective: bool) -> _Layer:
    """As transformers runs a layer, with the arguments that the decoder passes to it."""
    layer = decoder.layers[0].to(states.dtype)
    passed: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def take(_layer: Any, positional: tuple[Any, ...], named: dict[str, Any]) -> None:
        passed.append((positional, named))
        raise _Reached

    hook = layer.register_forward_pre_hook(take, with_kwargs=True)
    try:
        with _counted_attention(decoder), suppress(_Reached):
            decoder(inputs_embeds=states, use_cache=False)
    except RuntimeError as error:  # a tensor without storage has no values
        raise _NotCounted from error
    finally:
        hook.remove()
    positional, named = passed[0]
    others = (*positional[1:], *(value for name, value in named.items() if name != "hidden_states"))

    def run() -> Any:
        if selective:
            recompute_mlp(layer)
        try:
            with _counted_attention(decoder):
                if "hidden_states" in named:
                    return layer(*positional, **{**named, "hidden_states": states})
                return layer(states, *positional[1:], **named)
        finally:
            if selective:
                del layer.mlp.forward

    return _Layer(run, states, others)


class _NotCounted(Exception):
    """The layer's arguments depend on values."""


class _Reached(Exception):
    """The first layer would run now."""


@contextmanager
def _counted_attention(decoder: Any) -> Iterator[None]:
    """Within it transformers' attention modules of `decoder` run `_FlashAttention`, without a mask."""

    def attend(_module: Any, queries: Any, keys: Any, values: Any, _mask: Any, **_others: Any) -> tuple[Any, None]:
        return _attended(queries, keys, values).transpose(1, 2), None

    AttentionInterface.register(COUNTED, attend)
    configs = {id(module.config): module.config for module in decoder.modules() if hasattr(module, "config")}
    kernels = {key: config._attn_implementation for key, config in configs.items()}
    for config in configs.values():
        config._attn_implementation = COUNTED
    try:
        yield
    finally:
        for key, config in configs.items():
            config._attn_implementation = kernels[key]


class _DropoutMasks(TorchFunctionMode):
    """Counts the elements of dropout masks: PyTorch's meta device keeps them in the states' type, a GPU in 1 byte."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run `function`; a dropout that has an effect adds to the count."""
        named = kwargs or {}
        result = function(*args, **named)
        if function is torch.nn.functional.dropout and named["p"] and named["training"]:
            self.elements += result.numel()
        return result


def _tensors(values: Iterable[Any]) -> Iterator[torch.Tensor]:
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, tuple):
            yield from _tensors(value)


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


def _attended(queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    attended: torch.Tensor = _FlashAttention.apply(queries, keys, values)  # type: ignore[no-untyped-call]
    return attended
