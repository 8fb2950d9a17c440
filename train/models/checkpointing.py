"""Activation checkpointing of a loaded model: each layer keeps its input only and runs again in the backward pass."""

from typing import Any


def checkpoint_activations(model: Any) -> None:
    """Turn it on for all layers of a transformers `model`.

    transformers also makes the outputs of all embeddings, those of the vision tower too, require gradients, which only
    reentrant checkpoints need: a frozen vision tower would run again and backward.
    """
    model.gradient_checkpointing_enable({"use_reentrant": False})
    if getattr(model, "_require_grads_hook", None) is not None:
        model.disable_input_require_grads()
