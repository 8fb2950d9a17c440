"""Which parameters train, and AdamW's groups of them: projector only, LoRA, those chosen by name, or all.

The freeze table shows the outcome, part by part.
"""

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import peft
from torch import nn

from configs.errors import ConfigError
from configs.model import LoraConfig, ModelConfig
from configs.training import OptimConfig
from train.models.adapted_layers import PART_NAMES, target_names
from train.models.linear_probe import probe_of
from train.models.lora import is_lora, peft_config
from train.models.lora_linear import AdaptedLinear
from train.models.selective import described, selected
from train.models.types import PARTS, Family

SHOWN = 16  # modules of a part in the dry run


@dataclass(frozen=True)
class PartCount:
    """Parameters of one part of the model."""

    part: str
    total: int
    trainable: int
    learning_rate: float


def choose_trainable(model: Any, family: Family, config: ModelConfig, optim: OptimConfig, zero_stage: int = 0) -> None:
    """Freeze and unfreeze the parameters of `model` in place; mode `lora` adds the adapters that fit the ZeRO stage.

    A part whose learning rate is 0 is frozen. PiSSA's adapters begin as LoRA's until `train.models.pissa` sets them.
    Raises `ConfigError` if nothing would train, a part in LoRA's scope or a target has no layer, or `model.selective`
    finds nothing or everything.
    """
    model.requires_grad_(False)
    rates = learning_rates(optim)
    whole = _whole_parts(config)
    chosen = selected(model, family, config.selective, rates) if config.mode == "selective" else None
    for name, parameter in model.named_parameters():
        part = family.part_of(name)
        parameter.requires_grad = rates[part] > 0 and (part in whole if chosen is None else name in chosen)
    adapted = tuple(part for part in config.lora.scope if rates[part] > 0)
    if config.mode == "lora" and adapted:
        _add_adapters(model, family, replace(config.lora, scope=adapted), zero_stage)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ConfigError(f"mode {config.mode} with these learning rates trains nothing; set one of optim.lr_* above 0")


def _whole_parts(config: ModelConfig) -> tuple[str, ...]:
    """The parts whose weights train; LoRA adapts the projector instead where its scope has it."""
    if config.mode == "full":
        return PARTS
    return () if config.mode == "lora" and "projector" in config.lora.scope else ("projector",)


def _add_adapters(model: Any, family: Family, config: LoraConfig, zero_stage: int) -> None:
    """Put peft's layers in; what trained before still does."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    adapter = peft_config(model, family, config)
    if zero_stage < 3:
        adapter._register_custom_module({nn.Linear: AdaptedLinear})  # not written into an exported adapter
    peft.inject_adapter_in_model(adapter, model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad = is_lora(name)
    for parameter in trained:
        parameter.requires_grad = True


def learning_rates(optim: OptimConfig) -> dict[str, float]:
    """Peak learning rate of each part."""
    return {
        "projector": optim.lr_projector,
        "language": optim.lr_language,
        "vision": optim.lr_vision,
        "probe": optim.lr_probe,
        "other": 0.0,
    }


def lora_row(part: str) -> str:
    """The row of the freeze table for the LoRA of a part: `LoRA`, `LoRA projector`, `LoRA vision`."""
    return "LoRA" if part == "language" else f"LoRA {part}"


def count_parts(model: nn.Module, family: Family, optim: OptimConfig) -> list[PartCount]:
    """The freeze table. ZeRO-3 parameters are counted by their full size."""
    total: Counter[str] = Counter()
    trainable: Counter[str] = Counter()
    for name, parameter in model.named_parameters():
        part = lora_row(family.part_of(name)) if is_lora(name) else family.part_of(name)
        size = int(getattr(parameter, "ds_numel", parameter.numel()))
        total[part] += size
        trainable[part] += size if parameter.requires_grad else 0
    rates = learning_rates(optim)
    rates |= {lora_row(part): rate for part, rate in rates.items()}
    return [PartCount(part, total[part], trainable[part], rates.get(part, 0.0)) for part in sorted(total)]


def freeze_table(counts: list[PartCount]) -> str:
    """The freeze table as text."""
    lines = [f"{'part':<16}{'parameters':>16}{'trainable':>16}  learning rate"]
    for row in counts:
        rate = f"{row.learning_rate:g}" if row.trainable else "frozen"
        lines.append(f"{row.part:<16}{row.total:>16,}{row.trainable:>16,}  {rate}")
    lines.append(f"{'all':<16}{sum(r.total for r in counts):>16,}{sum(r.trainable for r in counts):>16,}")
    return "\n".join(lines)


def trained_modules(model: nn.Module, family: Family, config: ModelConfig) -> str:
    """Which modules train, a line a part: by their names in the model; for LoRA the linear layers it adapts."""
    every = [name for name, _ in model.named_parameters()]
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    lines = []
    for part in PARTS:
        own = [name for name in trained if not is_lora(name) and family.part_of(name) == part]
        if not own:
            continue
        modules = [prefix.rstrip(".") for prefix in family.parts[part] if any(n.startswith(prefix) for n in own)]
        listed = described(own, SHOWN, every) if config.mode == "selective" else ", ".join(modules)
        lines.append(f"{f'trained {part}':<18}{listed}")
    adapted = list(dict.fromkeys(name.split(".lora_")[0] for name in trained if is_lora(name)))
    for part in config.lora.scope:
        if layers := [name for name in adapted if family.part_of(f"{name}.") == part]:
            kind = "" if config.lora.variant == "lora" else f", variant {config.lora.variant}"
            where = "" if config.lora.scope == ("language",) else f" of {PART_NAMES[part]}"
            names = ", ".join(target_names(family, config.lora, part, layers))
            lines.append(f"{'trained LoRA':<18}on {names}{where}{kind}")
    if (probe := probe_of(model)) is not None:
        lines.append(f"{'trained probe':<18}token behind the image, linear layer of {len(probe.head.bias):,} classes")
    return "\n".join(lines)


def trains_language(model: nn.Module, family: Family) -> bool:
    """Whether a text without an image gives a gradient: some of the language model or its LoRA trains."""
    parameters = model.named_parameters()
    return any(p.requires_grad and family.part_of(name) == "language" for name, p in parameters)


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
