"""What a decoder layer does before and after its attention: as transformers wrote it, compiled, or by Liger's kernels.

Compiled, a few kernels take the place of many small ones: norms, rotary embedding, SwiGLU, residual sums and casts.
Liger's Triton kernels (package liger-kernel) are one each for norm, rotary embedding and SwiGLU; those of
`torch.compile` include all three, so the two are not combined. Attention is not compiled: it is one kernel already.
Layers that transformers runs (`compile_layers`: vision tower, Q-Former, other decoders) are compiled whole.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from types import MethodType
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from train.models.compile_probe import CompiledOnProbe
from train.models.llama_layers import AS_WRITTEN, Operations, after_attention, queries_keys_values

GRAPHS = 64
"""Most graphs of one function, instead of PyTorch's 8: all types of layers share transformers' one wrapper.

Each has one for a single row and one for several, with and without gradients.
"""


@dataclass(frozen=True)
class LayerParts:
    """The functions of `llama_layers` with chosen kernels."""

    before: Callable[..., tuple[torch.Tensor, ...]] = queries_keys_values
    after: Callable[..., torch.Tensor] = after_attention

    @classmethod
    def of(cls, kernels: str, decoder: Any) -> "LayerParts":
        """Those of `kernels` (`none`, `compile` or `liger`) for `decoder`, whose norms Liger's kernels then compute."""
        if kernels == "liger":
            operations = liger_operations(decoder.config.hidden_act)
            for layer in decoder.layers:
                fuse_norm(layer.input_layernorm)
                fuse_norm(layer.post_attention_layernorm)
            return cls(
                partial(queries_keys_values, operations=operations), partial(after_attention, operations=operations)
            )
        return cls.compiled() if kernels == "compile" else cls()

    @classmethod
    def compiled(cls, backend: str | Callable[..., Any] = "inductor") -> "LayerParts":
        """Compiled once for all layers and for any number of tokens; the first batch does not decide the kernels."""
        torch._dynamo.config.recompile_limit = max(GRAPHS, torch._dynamo.config.recompile_limit)
        before = torch.compile(queries_keys_values, backend=backend, dynamic=True)
        return cls(
            CompiledOnProbe(before), CompiledOnProbe(torch.compile(after_attention, backend=backend, dynamic=True))
        )

    def recomputing(self) -> "LayerParts":
        """The same, keeping of `after` its inputs only: it is run again in the backward pass."""
        return replace(self, after=partial(checkpoint, self.after, use_reentrant=False))


def compile_layers(
    model: nn.Module, backend: str | Callable[..., Any] = "inductor", *, leave: Iterable[nn.Module] = ()
) -> None:
    """Let every repeated layer of `model` be compiled when transformers calls it, except those in `leave`.

    Layers of one type share a graph for any number of rows and tokens. Nothing is compiled of a layer that is not
    called, such as those of a decoder that `LayerParts` runs.
    """
    torch._dynamo.config.recompile_limit = max(GRAPHS, torch._dynamo.config.recompile_limit)
    left = {inner for module in leave for inner in module.modules()}
    for layer in model.modules():
        if isinstance(layer, GradientCheckpointingLayer) and layer not in left:
            layer.compile(backend=backend, dynamic=True)


def fuse_norm(norm: Any) -> None:
    """Let Liger's kernel compute this RMSNorm of LLaMA's type; ZeRO 3 still fetches its weight when it is called."""
    norm.forward = MethodType(_liger_norm, norm)


def _liger_norm(module: Any, states: torch.Tensor) -> torch.Tensor:
    """The gradient of the output is overwritten: matrix products made it, and nothing else reads it."""
    from liger_kernel.ops.rms_norm import LigerRMSNormFunction

    normed: torch.Tensor = LigerRMSNormFunction.apply(
        states, module.weight, module.variance_epsilon, 0.0, "llama", True
    )
    return normed


@contextmanager
def as_written(model: nn.Module) -> Iterator[None]:
    """transformers' own layers of `model` inside the block, as the other side of a comparison."""
    fused = [part for part in model.modules() if getattr(part.forward, "__func__", None) is _liger_norm]
    for norm in fused:
        del norm.forward
    try:
        with torch.compiler.set_stance("force_eager"):
            yield
    finally:
        for norm in fused:
            fuse_norm(norm)


def restore_layers(model: nn.Module) -> None:
    """transformers' own layers of `model` again, for good."""
    for part in model.modules():
        part._compiled_call_impl = None
        if getattr(part.forward, "__func__", None) is _liger_norm:
            del part.forward


def liger_operations(activation: str) -> Operations:
    """Liger's; an `activation` other than SiLU is computed as transformers wrote it.

    Gradients are written over activations, so a backward pass runs once.
    """
    from liger_kernel.ops.rope import LigerRopeFunction
    from liger_kernel.ops.swiglu import LigerSiLUMulFunction

    def rotate(
        queries: torch.Tensor, keys: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        rotated: tuple[torch.Tensor, torch.Tensor] = LigerRopeFunction.apply(queries, keys, cosines, sines)
        return rotated

    def gate(mlp: Any, gates: torch.Tensor, values: torch.Tensor) -> torch.Tensor:  # noqa: ARG001 - it is SiLU
        gated: torch.Tensor = LigerSiLUMulFunction.apply(gates, values)
        return gated

    return Operations(rotate, gate if activation in ("silu", "swish") else AS_WRITTEN.gate)
