"""LoRA on the language model: where it goes, and how it is merged into the weights."""

import re
from typing import Any

import peft
import torch
from torch import nn

from configs.errors import ConfigError
from configs.model import LoraConfig, ModelConfig
from configs.training import OptimConfig
from train.models.types import Family


def peft_config(config: LoraConfig, family: Family) -> Any:
    """peft's configuration of our LoRA, limited to the language model.

    The usual target names (`q_proj`, …) also match layers of the vision tower, so they are anchored to the family's
    `lora_scope`.
    """
    names = "|".join(map(re.escape, lora_targets(config, family)))
    return peft.LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=rf".*{re.escape(family.lora_scope)}.*\.({names})",
        bias="none",
    )


def lora_targets(config: LoraConfig, family: Family) -> tuple[str, ...]:
    """The linear layers to adapt, by the last part of their name: `model.lora.targets`, or else the family's."""
    return family.lora_targets if config.targets is None else config.targets


def check_targets(model: nn.Module, family: Family, config: LoraConfig) -> None:
    """Raise `ConfigError` that lists the language model's linear layers if one of the targets is none of them."""
    scope = re.compile(rf".*{re.escape(family.lora_scope)}")
    linear = {
        name for name, module in model.named_modules() if isinstance(module, nn.Linear) and scope.match(f"{name}.")
    }
    targets = lora_targets(config, family)
    unmatched = [target for target in targets if not any(name.endswith(f".{target}") for name in linear)]
    present = sorted({name.rpartition(".")[2] for name in linear})
    if not targets:
        raise ConfigError(
            f"model.lora.targets is empty, so LoRA would train nothing; name linear layers: {', '.join(present)}"
        )
    if unmatched:
        raise ConfigError(
            f"model.lora.targets has {', '.join(unmatched)}, and the language model of this {family.name} has no "
            f"linear layer of that name; its linear layers are {', '.join(present)}"
        )


def peft_layers_note(config: ModelConfig, optim: OptimConfig, zero_stage: int) -> str | None:
    """Why LoRA's layers are peft's instead of `lora_linear.AdaptedLinear`; None where they are not."""
    if config.mode != "lora" or optim.lr_language == 0 or zero_stage < 3:
        return None
    return (
        f"peft's layers, as deepspeed.zero_stage is {zero_stage} and fetches weights layer by layer: more memory for "
        "activations and more small kernels than at a lower stage"
    )


def is_lora(parameter: str) -> bool:
    """Whether the parameter of this name is LoRA's."""
    return "lora_" in parameter


def merge_lora(model: Any, lora: dict[str, torch.Tensor], scale: float) -> None:
    """Add `scale` x B A to each adapted weight of `model` in place, computed in fp32.

    `lora` maps `LAYER.lora_A.default.weight` (r, in) and `LAYER.lora_B.default.weight` (out, r) to tensors.
    """
    parameters = dict(model.named_parameters())
    for name, down in lora.items():
        if ".lora_A." not in name:
            continue
        layer = name.split(".lora_A.")[0]
        up = lora[name.replace(".lora_A.", ".lora_B.")]
        weight = parameters[f"{layer}.weight"]
        weight.data.copy_(weight.data.float() + scale * (up.float() @ down.float()))
