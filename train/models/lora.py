"""LoRA on the language model: where it goes, and how it is merged into the weights."""

import re
from typing import Any

import peft
import torch

from configs.model import LoraConfig
from train.models.types import Family


def peft_config(config: LoraConfig, family: Family) -> Any:
    """peft's configuration of our LoRA, limited to the language model.

    The usual target names (`q_proj`, …) also match layers of the vision tower, so they are anchored to the family's
    `lora_scope`.
    """
    names = "|".join(map(re.escape, config.targets))
    return peft.LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=rf".*{re.escape(family.lora_scope)}.*\.({names})",
        bias="none",
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
