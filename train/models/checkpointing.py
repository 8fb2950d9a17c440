"""Activation checkpointing of a loaded model: of whole layers, or selective, of the MLPs of transformers' decoders."""

from types import MethodType
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from configs.errors import ConfigError


def checkpoint_activations(model: Any) -> None:
    """Turn it on for all layers of a transformers `model`.

    transformers also makes the outputs of all embeddings, those of the vision tower too, require gradients, which only
    reentrant checkpoints need: a frozen vision tower would run again and backward.
    """
    model.gradient_checkpointing_enable({"use_reentrant": False})
    if getattr(model, "_require_grads_hook", None) is not None:
        model.disable_input_require_grads()


def checkpoint_mlps(decoder: Any) -> None:
    """Selective checkpointing of a `decoder` that transformers runs: each MLP keeps its input only.

    Where `target_states` runs the decoder, it recomputes all that follows the attention itself. Raises `ConfigError` if
    the decoder's layers have no module `mlp`.
    """
    if not has_mlps(decoder):
        raise ConfigError(
            f"model.activation_checkpointing is selective, and layers of {type(decoder).__name__} have no MLP module; "
            "set it to true or false"
        )
    for layer in decoder.layers:
        recompute_mlp(layer)


def has_mlps(decoder: Any) -> bool:
    """Whether each layer of `decoder` has a module `mlp`."""
    layers = list(getattr(decoder, "layers", ()))
    return bool(layers) and all(isinstance(getattr(layer, "mlp", None), torch.nn.Module) for layer in layers)


def recompute_mlp(layer: Any) -> None:
    """The MLP of `layer` keeps its input only, where it trains."""
    layer.mlp.forward = MethodType(_recomputed, layer.mlp)  # one function, so that compiled layers share a graph


def _recomputed(mlp: torch.nn.Module, states: torch.Tensor) -> Any:
    forward: Any = type(mlp).forward
    if mlp.training and torch.is_grad_enabled():
        return checkpoint(forward, mlp, states, use_reentrant=False)
    return forward(mlp, states)
