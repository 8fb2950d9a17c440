"""A DeepSpeed configuration file (`deepspeed.base`): read, its older spellings replaced, its "auto" values left out.

Files written for transformers' Trainer are full of "auto", which here too means that the program decides. Sources of
the keys: DeepSpeed 0.19.8's `runtime/config.py` and `runtime/zero/config.py`.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from configs.errors import ConfigError

AUTO = "auto"
ZERO = "zero_optimization"
OFFLOADS = ("offload_optimizer", "offload_param")
ELEMENT_COUNTS = frozenset(
    (
        "reduce_bucket_size",
        "allgather_bucket_size",
        "sub_group_size",
        "stage3_prefetch_bucket_size",
        "stage3_param_persistence_threshold",
        "stage3_model_persistence_threshold",
        "stage3_max_live_parameters",
        "stage3_max_reuse_distance",
    )
)
"""Keys of `zero_optimization` that count elements. Files compute them, as in 0.9 x hidden size^2: a fraction is cut."""


def read_deepspeed_file(path: Path) -> dict[str, Any]:
    """The file's content; comments and trailing commas are accepted, as DeepSpeed accepts them.

    Raises `ConfigError` for a file that is missing, unreadable, no object, or that has a key twice.
    """
    if not path.is_file():
        raise ConfigError(f"deepspeed.base: no file {path}")
    try:
        content = _parse(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"deepspeed.base {path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"deepspeed.base {path} holds a {type(content).__name__}; it must be an object")
    return normalised(content, path)


def normalised(content: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """`content` without "auto", and with today's keys in place of older ones. Raises `ConfigError` for a wrong type.

    >>> normalised({"zero_optimization": {"stage": "auto", "cpu_offload": True}}, Path("ds.json"))
    {'zero_optimization': {'offload_optimizer': {'device': 'cpu'}}}
    """
    found: dict[str, Any] = _without_auto(content)
    if "bfloat16" in found:
        found.setdefault("bf16", found.pop("bfloat16"))
    if str(found.get("steps_per_print")).lower() in ("inf", "infinity", "none"):  # never
        found.pop("steps_per_print", None)
    if isinstance(found.get(ZERO), bool):
        found[ZERO] = {"stage": int(found[ZERO])}
    for name in (ZERO, "bf16", "fp16", "amp", "optimizer", "scheduler"):
        if found.get(name) is None:
            found.pop(name, None)
        elif not isinstance(found[name], dict):
            raise ConfigError(f"deepspeed.base {path} sets {name} to {found[name]!r}; it must be an object")
    if ZERO in found:
        found[ZERO] = _zero(found[ZERO], path)
    return found


def _zero(zero: dict[str, Any], path: Path) -> dict[str, Any]:
    pin_memory = zero.pop("cpu_offload_use_pin_memory", None)
    for old, new in (
        ("cpu_offload", "offload_optimizer"),
        ("cpu_offload_param", "offload_param"),
        ("cpu_offload_params", "offload_param"),
    ):
        if zero.pop(old, False):
            zero.setdefault(new, {"device": "cpu"})
    for name in OFFLOADS:
        block = zero.get(name)
        if block is not None and not isinstance(block, dict):
            raise ConfigError(f'deepspeed.base {path} sets {ZERO}.{name} to {block!r}; it must be {{"device": ...}}')
        if not block or block.get("device", "none") in (None, "none"):
            zero.pop(name, None)
        elif pin_memory:
            block.setdefault("pin_memory", True)
    for name in ELEMENT_COUNTS & zero.keys():
        if isinstance(zero[name], float):
            zero[name] = _whole(zero[name])
    return zero


def _whole(count: float) -> float | int:
    """`count` without its fraction; what is no count at all (infinity) is left for DeepSpeed to reject."""
    return int(count) if abs(count) < float("inf") else count


def _without_auto(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_auto(item) for key, item in value.items() if item != AUTO}
    return value


def _parse(text: str) -> Any:
    """JSON, or else Hjson, which DeepSpeed reads; the error is that of JSON, which names the line."""
    if not text.strip():
        raise ValueError("it is empty")
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        found = _as_hjson(text, _unique)
        if found is None:
            raise error
        return found


def _as_hjson(text: str, unique: Callable[[list[tuple[str, Any]]], dict[str, Any]]) -> Any:
    import hjson  # a dependency of DeepSpeed

    try:
        return hjson.loads(text, object_pairs_hook=unique)
    except hjson.HjsonDecodeError:
        return None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        twice = sorted({key for key, _ in pairs if [name for name, _ in pairs].count(key) > 1})
        raise ValueError(f"it has {', '.join(twice)} more than once")
    return content
