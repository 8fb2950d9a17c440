"""Mode `selective`: the parameters whose names a regular expression finds, or the preset `attention`.

Training the attention projections of the language model alone taught new skills with the least forgetting in
arXiv 2510.08564.
"""

import re
from collections.abc import Iterable, Mapping

from torch import nn

from configs.errors import ConfigError
from configs.model import ATTENTION
from train.models.types import Family

PROJECTIONS = re.compile(r"\.(self_attn|attention|attn)\.(q_proj|k_proj|v_proj|o_proj|out_proj)\.")
NUMBER = re.compile(r"\.\d+(?=\.|$)")
LISTED = 40


def selected(model: nn.Module, family: Family, selective: str, rates: Mapping[str, float]) -> set[str]:
    """Names of the parameters to train; those without effect (`Family.runs`) are not among them.

    `rates` maps each part to its learning rate. Raises `ConfigError` that lists what there is if nothing or everything
    is found, or something whose learning rate is 0.
    """
    names = [name for name, _ in model.named_parameters()]
    found = [name for name in names if _matches(family, selective, name)]
    given = f"model.selective is {selective!r}"
    if not found:
        tied = [n for n, _ in model.named_parameters(remove_duplicate=False) if n not in names]
        shared = [name for name in tied if _matches(family, selective, name)]
        why = f"only {', '.join(shared)}, the same weight as another here" if shared else "no parameter"
        raise ConfigError(f"{given}, which finds {why} of this {family.name}; it has {described(names, LISTED)}")
    if len(found) == len(names):
        raise ConfigError(
            f"{given}, which finds every parameter: set model.mode to full, or name some of {described(names, LISTED)}"
        )
    running = [name for name in found if family.runs(name)]
    if not running:
        raise ConfigError(
            f"{given}, which finds only parameters without an effect, {described(found, LISTED)}; others are"
            f" {described([name for name in names if family.runs(name)], LISTED)}"
        )
    parts = {family.part_of(name): name for name in reversed(running)}
    for part in (part for part in parts if not rates[part]):
        raise ConfigError(
            f"{given}, which finds {parts[part]}, and the learning rate of its part {part} (optim.lr_{part}) is 0; set"
            " it above 0, or name others"
        )
    return set(running)


def described(names: Iterable[str], most: int, among: Iterable[str] = ()) -> str:
    """Modules by their names, each once and up to `most` of them: `layers.N.mlp` for all numbers of layers.

    Where `among`, the names of all parameters, has more layers, those of `names` are listed: `layers.{0,30-31}.mlp`.
    """
    of_all = _by_module(among)
    unique = [_with_numbers(module, own, of_all.get(module, own)) for module, own in _by_module(names).items()]
    more = f" and {len(unique) - most} more" if len(unique) > most else ""
    return ", ".join(unique[:most]) + more


def _by_module(names: Iterable[str]) -> dict[str, set[tuple[int, ...]]]:
    """Modules, numbers in their names as N, to the numbers that there are of each."""
    found: dict[str, set[tuple[int, ...]]] = {}
    for name in names:
        module = re.sub(r"\.(weight|bias)$", "", name)
        numbers = tuple(int(number[1:]) for number in NUMBER.findall(module))
        found.setdefault(NUMBER.sub(".N", module), set()).add(numbers)
    return found


def _with_numbers(module: str, own: set[tuple[int, ...]], of_all: set[tuple[int, ...]]) -> str:
    """`module` with the numbers of `own` in place of each N where `of_all` has more."""
    mine, whole = ([sorted(set(column)) for column in zip(*found, strict=True)] for found in (own, of_all))
    pairs = zip(mine, whole, strict=True)
    shown = iter([".N" if numbers == there else f".{{{_ranges(numbers)}}}" for numbers, there in pairs])
    return re.sub(r"\.N(?=\.|$)", lambda _: next(shown), module)


def _ranges(numbers: list[int]) -> str:
    """0, 1, 2, 5 as `0-2,5`."""
    starts = [number for number in numbers if number - 1 not in numbers]
    ends = [number for number in numbers if number + 1 not in numbers]
    return ",".join(f"{a}" if a == b else f"{a}-{b}" for a, b in zip(starts, ends, strict=True))


def _matches(family: Family, selective: str, name: str) -> bool:
    if selective == ATTENTION:
        return family.part_of(name) == "language" and PROJECTIONS.search(name) is not None
    return re.search(selective, name) is not None
