"""Which parameters train, and AdamW's groups of them: projector only, projector and LoRA, or all.

The freeze table shows the outcome, part by part.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import peft
from torch import nn

from configs.errors import ConfigError
from configs.model import ModelConfig
from configs.training import OptimConfig
from train.models.lora import check_targets, is_lora, lora_targets, peft_config
from train.models.lora_linear import AdaptedLinear
from train.models.types import PARTS, Family


@dataclass(frozen=True)
class PartCount:
    """Parameters of one part of the model."""

    part: str
    total: int
    trainable: int
    learning_rate: float


def choose_trainable(model: Any, family: Family, config: ModelConfig, optim: OptimConfig, zero_stage: int = 0) -> None:
    """Freeze and unfreeze the parameters of `model` in place; mode `lora` adds the adapters that fit the ZeRO stage.

    A part whose learning rate is 0 is frozen. Raises `ConfigError` if nothing would train, or a LoRA target matches
    no layer.
    """
    model.requires_grad_(False)
    rates = learning_rates(optim)
    parts = {"projector": ("projector",), "lora": ("projector",), "full": PARTS}
    for name, parameter in model.named_parameters():
        part = family.part_of(name)
        parameter.requires_grad = part in parts[config.mode] and rates[part] > 0
    if config.mode == "lora" and optim.lr_language > 0:
        check_targets(model, family, config.lora)
        adapter = peft_config(config.lora, family)
        if zero_stage < 3:
            adapter._register_custom_module({nn.Linear: AdaptedLinear})  # not written into an exported adapter
        peft.inject_adapter_in_model(adapter, model)
        for name, parameter in model.named_parameters():
            if is_lora(name):
                parameter.requires_grad = True
            elif family.part_of(name) == "projector":
                parameter.requires_grad = optim.lr_projector > 0
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ConfigError(f"mode {config.mode} with these learning rates trains nothing; set one of optim.lr_* above 0")


def learning_rates(optim: OptimConfig) -> dict[str, float]:
    """Peak learning rate of each part."""
    return {"projector": optim.lr_projector, "language": optim.lr_language, "vision": optim.lr_vision, "other": 0.0}


def count_parts(model: nn.Module, family: Family, optim: OptimConfig) -> list[PartCount]:
    """The freeze table. ZeRO-3 parameters are counted by their full size."""
    total: Counter[str] = Counter()
    trainable: Counter[str] = Counter()
    for name, parameter in model.named_parameters():
        part = "LoRA" if is_lora(name) else family.part_of(name)
        size = int(getattr(parameter, "ds_numel", parameter.numel()))
        total[part] += size
        trainable[part] += size if parameter.requires_grad else 0
    rates = learning_rates(optim) | {"LoRA": optim.lr_language}
    return [PartCount(part, total[part], trainable[part], rates.get(part, 0.0)) for part in sorted(total)]


def freeze_table(counts: list[PartCount]) -> str:
    """The freeze table as text."""
    lines = [f"{'part':<12}{'parameters':>16}{'trainable':>16}  learning rate"]
    for row in counts:
        rate = f"{row.learning_rate:g}" if row.trainable else "frozen"
        lines.append(f"{row.part:<12}{row.total:>16,}{row.trainable:>16,}  {rate}")
    lines.append(f"{'all':<12}{sum(r.total for r in counts):>16,}{sum(r.trainable for r in counts):>16,}")
    return "\n".join(lines)


def trained_modules(model: nn.Module, family: Family, config: ModelConfig) -> str:
    """Which modules train, a line a part: by their names in the model; for LoRA the linear layers it adapts."""
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    lines = []
    for part in PARTS:
        own = [name for name in trained if not is_lora(name) and family.part_of(name) == part]
        modules = [prefix.rstrip(".") for prefix in family.parts[part] if any(n.startswith(prefix) for n in own)]
        lines += [f"{f'trained {part}':<18}{', '.join(modules)}"] if modules else []
    if any(map(is_lora, trained)):
        lines.append(f"{'trained LoRA':<18}on {', '.join(lora_targets(config.lora, family))}")
    return "\n".join(lines)


def parameter_groups(model: nn.Module, family: Family, optim: OptimConfig) -> list[dict[str, Any]]:
    """AdamW's groups, each with its part's name and peak rate (`peak_lr`).

    A part is one group without weight decay; with it, biases and norms are a second one that does not decay (as in
    LAVIS and in transformers' Trainer).
    """
    rates = learning_rates(optim)
    groups: dict[tuple[str, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decay = optim.weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((family.part_of(name), decay), []).append(parameter)
    return [
        {"params": parameters, "name": part, "lr": rates[part], "peak_lr": rates[part], "weight_decay": decay}
        for (part, decay), parameters in groups.items()
    ]
