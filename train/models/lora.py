"""LoRA and its variants: peft's configuration of ours, and how a trained one is merged into the weights."""

import math
from typing import Any

import peft
import torch
from torch import nn

from configs.model import LoraConfig, ModelConfig
from configs.training import OptimConfig
from train.models.adapted_layers import adapted_layers, target_pattern
from train.models.types import Family


def peft_config(model: nn.Module, family: Family, config: LoraConfig) -> Any:
    """peft's configuration of our LoRA on the layers of `model` in its scope.

    PiSSA is plain LoRA to peft: `train.models.pissa` sets weights and matrices. Raises `ConfigError` as
    `adapted_layers`.
    """
    layers = [name for part in adapted_layers(model, family, config).values() for name in part]
    return peft.LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=target_pattern(model, layers),
        use_rslora=config.variant == "rslora",
        use_dora=config.variant == "dora",
        bias="none",
    )


def lora_scale(config: LoraConfig) -> float:
    """What the product of the two matrices is multiplied by."""
    return config.alpha / (math.sqrt(config.rank) if config.variant == "rslora" else config.rank)


def peft_layers_note(config: ModelConfig, optim: OptimConfig, zero_stage: int) -> str | None:
    """Why LoRA's layers are peft's instead of `lora_linear.AdaptedLinear`; None where they are not."""
    if config.mode != "lora" or not any(getattr(optim, f"lr_{part}") for part in config.lora.scope):
        return None
    if config.lora.variant == "dora":
        return "peft's layers, as DoRA needs the norm of each adapted weight: more memory for activations"
    if zero_stage < 3:
        return None
    return (
        f"peft's layers, as deepspeed.zero_stage is {zero_stage} and fetches weights layer by layer: more memory for "
        "activations and more small kernels than at a lower stage"
    )


def is_lora(parameter: str) -> bool:
    """Whether the parameter of this name is LoRA's: a matrix of it, or DoRA's magnitudes."""
    return "lora_" in parameter


def merge_lora(model: nn.Module, lora: dict[str, torch.Tensor], config: LoraConfig) -> None:
    """Put LoRA into each adapted weight W of `model` in place, computed in fp32: W + scale x B A.

    DoRA then gives each row the norm that was trained, as peft's merge does. `lora` maps
    `LAYER.lora_A.default.weight` (r, in), `LAYER.lora_B.default.weight` (out, r) and
    `LAYER.lora_magnitude_vector.default.weight` (out) to tensors.
    """
    parameters, scale = dict(model.named_parameters()), lora_scale(config)
    for name, down in lora.items():
        if ".lora_A." not in name:
            continue
        layer = name.split(".lora_A.")[0]
        up = lora[name.replace(".lora_A.", ".lora_B.")]
        weight = parameters[f"{layer}.weight"]
        merged = weight.data.float() + scale * (up.float() @ down.float())
        if config.variant == "dora":
            magnitude = lora[name.replace(".lora_A.", ".lora_magnitude_vector.")].float()
            merged *= (magnitude / torch.linalg.norm(merged, dim=1))[:, None]
        weight.data.copy_(merged)


def adapter_key(parameter: str) -> str:
    """The name that a parameter of LoRA has in a peft adapter's file."""
    key = f"base_model.model.{parameter.replace('.default.', '.')}"
    return key.removesuffix(".weight") if ".lora_magnitude_vector." in key else key
