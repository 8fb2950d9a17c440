"""Which linear layers LoRA adapts: those of the parts in `model.lora.scope`, all of attention and MLP by default."""

import re
from typing import Any

from torch import nn

from configs.errors import ConfigError
from configs.model import LoraConfig
from train.models.types import Family

PART_NAMES = {"language": "the language model", "projector": "the projector", "vision": "the vision tower"}


def adapted_layers(model: nn.Module, family: Family, config: LoraConfig) -> dict[str, list[str]]:
    """Each part of the scope to the names of its adapted layers, without those that have no effect (`Family.runs`).

    Raises `ConfigError` that lists the linear layers there are, if a part has none to adapt or a target is none of
    them; and for PiSSA of a rank that a layer does not have.
    """
    linear = {part: _linear_layers(model, family, part) for part in config.scope}
    for part, names in linear.items():
        if not names:
            others = [PART_NAMES[other] for other in PART_NAMES if _linear_layers(model, family, other)]
            raise ConfigError(
                f"model.lora.scope has {part}, and {PART_NAMES[part]} of this {family.name} has no linear layer; those"
                f" with linear layers are {', '.join(others)}"
            )
    _check_targets(linear, family, config)
    found = {}
    for part, names in linear.items():
        found[part] = [name for name in names if _is_target(name, part, family, config)]
        if not found[part]:
            raise ConfigError(
                f"model.lora.scope has {part}, and none of its linear layers is in model.lora.targets"
                f" ({', '.join(config.targets or ())}); they are {_last_parts(names)}"
            )
    if config.variant == "pissa":
        _check_rank(model, found, config.rank)
    return found


def target_pattern(model: nn.Module, layers: list[str]) -> str | list[str]:
    """A regular expression that matches exactly these modules of `model`, short where it can be; else their names."""
    shapes = dict.fromkeys(re.sub(r"(?<=\\\.)\d+(?=\\\.|$)", lambda _: r"\d+", re.escape(name)) for name in layers)
    pattern = re.compile("|".join(shapes))
    matched = {name for name, _ in model.named_modules() if pattern.fullmatch(name)}
    return pattern.pattern if matched == set(layers) else layers


def target_names(family: Family, config: LoraConfig, part: str, layers: list[str]) -> list[str]:
    """The last parts of the layers' names, for people: in the order of the targets, or else of the model."""
    names = list(dict.fromkeys(name.rpartition(".")[2] for name in layers))
    order = list(config.targets or (family.lora_targets if part == "language" else ()))
    return sorted(names, key=lambda name: order.index(name) if name in order else len(order))


def _linear_layers(model: nn.Module, family: Family, part: str) -> list[str]:
    """Names of the plain linear layers of a part that have an effect, without the head."""
    head = family.head(model)
    return [
        name
        for name, module in model.named_modules()
        if type(module) is nn.Linear
        and module is not head
        and family.part_of(f"{name}.") == part
        and family.runs(f"{name}.weight")
    ]


def _is_target(name: str, part: str, family: Family, config: LoraConfig) -> bool:
    last = name.rpartition(".")[2]
    if config.targets is not None:
        return last in config.targets
    if part == "language":
        return last in family.lora_targets
    return part == "projector" or re.search(r"\.\d+\.", name) is not None  # of the tower's layers, not of a head


def _check_targets(linear: dict[str, list[str]], family: Family, config: LoraConfig) -> None:
    """Raise `ConfigError` for no target at all, and for one that no part of the scope has."""
    targets = config.targets if config.targets is not None else family.lora_targets
    names = [name for part in linear for name in linear[part]]
    if not targets:
        raise ConfigError(
            f"model.lora.targets is empty, so LoRA would train nothing; name linear layers: {_last_parts(names)}"
        )
    if config.targets is None:
        names = linear.get("language", [])
        targets = targets if names else ()
    present = {name.rpartition(".")[2] for name in names}
    if unmatched := [target for target in targets if target not in present]:
        where, have = " and ".join(PART_NAMES[part] for part in linear), "has" if len(linear) == 1 else "have"
        raise ConfigError(
            f"model.lora.targets has {', '.join(unmatched)}, and {where} of this {family.name} {have} no linear layer"
            f" of that name; {'its' if have == 'has' else 'their'} linear layers are {_last_parts(names)}"
        )


def _check_rank(model: Any, layers: dict[str, list[str]], rank: int) -> None:
    """Raise `ConfigError` where a weight has fewer singular values than the rank."""
    names = (name for part in layers.values() for name in part)
    smallest, name = min((min(model.get_submodule(name).weight.shape), name) for name in names)
    if rank > smallest:
        raise ConfigError(
            f"model.lora.rank is {rank}, and pissa begins with as many singular values of each weight: {name} has"
            f" {smallest}; set model.lora.rank={smallest} or less, or another variant"
        )


def _last_parts(names: list[str]) -> str:
    return ", ".join(sorted({name.rpartition(".")[2] for name in names}))
