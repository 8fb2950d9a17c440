"""The DeepSpeed configuration, generated in this one place, and how much memory a run will take.

Batch sizes are multiplied here once; a user's own JSON may be the base, and a value in it that contradicts our config
is an error rather than a silent winner.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from configs.errors import ConfigError
from configs.schema import RunConfig
from train.schedule import BatchPlan

BUCKET_ELEMENTS = 50_000_000


def deepspeed_config(config: RunConfig, plan: BatchPlan) -> dict[str, Any]:
    """The dictionary for `deepspeed.initialize`.

    Raises `ConfigError` if `deepspeed.base` is unreadable or disagrees with the config.
    """
    ours = _generated(config, plan)
    if config.deepspeed.base is None:
        return ours
    return _merged(_read_base(Path(config.deepspeed.base)), ours, config.deepspeed.base)


def _generated(config: RunConfig, plan: BatchPlan) -> dict[str, Any]:
    stage = config.deepspeed.zero_stage
    zero: dict[str, Any] = {"stage": stage}
    if stage:
        zero |= {"reduce_bucket_size": BUCKET_ELEMENTS, "allgather_bucket_size": BUCKET_ELEMENTS}
        zero |= {"overlap_comm": False, "contiguous_gradients": True}
    if stage == 3:
        zero |= {"stage3_gather_16bit_weights_on_model_save": False}
    for key, device in (("offload_optimizer", config.deepspeed.offload_optimizer),
                        ("offload_param", config.deepspeed.offload_param)):  # fmt: skip
        if device != "none":
            zero[key] = {"device": device} | ({"nvme_path": config.deepspeed.nvme_path} if device == "nvme" else {})
    settings: dict[str, Any] = {
        "train_batch_size": plan.global_batch,
        "train_micro_batch_size_per_gpu": plan.micro_batch,
        "gradient_accumulation_steps": plan.accumulation,
        "gradient_clipping": config.optim.clip_norm,
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 1_000_000_000,
        "bf16": {"enabled": config.model.dtype == "bf16"},
    }
    if config.deepspeed.offload_optimizer != "none":
        settings["zero_force_ds_cpu_optimizer"] = False
    return settings


def _read_base(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ConfigError(f"deepspeed.base: no file {path}")
    try:
        base = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"deepspeed.base {path} is not JSON: {error}") from error
    if not isinstance(base, dict):
        raise ConfigError(f"deepspeed.base {path} holds a {type(base).__name__}; it must be an object")
    for key in ("optimizer", "scheduler"):
        if key in base:
            raise ConfigError(f"deepspeed.base {path} sets {key!r}; the {key} comes from optim.*: remove it there")
    for key in ("fp16", "amp"):
        if isinstance(base.get(key), dict) and base[key].get("enabled"):
            raise ConfigError(f"deepspeed.base {path} turns on {key}; precision is model.dtype (bf16, fp32): remove it")
    return base


def _merged(base: Mapping[str, Any], ours: Mapping[str, Any], path: str, prefix: str = "") -> dict[str, Any]:
    """`base` completed by `ours`; "auto" (as transformers uses it) gives way, anything else must agree."""
    merged = dict(base)
    for key, value in ours.items():
        name = f"{prefix}{key}"
        theirs = base.get(key, "auto")
        if isinstance(value, Mapping) and isinstance(theirs, Mapping):
            merged[key] = _merged(theirs, value, path, f"{name}.")
        elif theirs == "auto" or (key in _OUR_DEFAULTS and key in base):
            merged[key] = value if theirs == "auto" else theirs
        elif theirs != value:
            raise ConfigError(f"deepspeed.base {path} sets {name} to {theirs!r}, this run needs {value!r}; remove one")
    return merged


_OUR_DEFAULTS = frozenset(
    ("reduce_bucket_size", "allgather_bucket_size", "overlap_comm", "contiguous_gradients", "steps_per_print")
)  # tuning knobs whose value never changes the result: the user's JSON wins


def memory_estimate(total: int, trainable: int, config: RunConfig, plan: BatchPlan) -> dict[str, float]:
    """GiB per rank for weights, gradients and optimizer state (activations are not counted).

    In bf16 the optimizer keeps fp32 master weights, gradients are reduced in bf16; ZeRO 1 shards the optimizer,
    2 also gradients, 3 also weights.
    """
    width = 2 if config.model.dtype == "bf16" else 4
    stage, world = config.deepspeed.zero_stage, plan.world
    weights = total * width / (world if stage == 3 else 1)
    gradients = trainable * 4 / (world if stage >= 2 else 1)
    optimizer = trainable * (12 if width == 2 else 8) / (world if stage >= 1 else 1)
    gib = 1024**3
    return {
        "weights": weights / gib,
        "gradients": gradients / gib,
        "optimizer": optimizer / gib,
        "total": (weights + gradients + optimizer) / gib,
    }
