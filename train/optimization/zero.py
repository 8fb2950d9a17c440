"""The DeepSpeed configuration, generated in this one place, and how much memory a run will take.

Batch sizes are multiplied here once; a user's own JSON may be the base, and a value in it that contradicts our config
is an error rather than a silent winner.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from configs.batch_plan import BatchPlan
from configs.errors import ConfigError
from configs.run import RunConfig

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
        base = json.loads(path.read_text(encoding="utf-8-sig"))
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
    """GiB per rank for weights, gradients and optimizer state in the update (activations are not counted).

    Bytes a trained weight, counted in DeepSpeed 0.19.8 as living tensors (W ranks; 2 or 4 for bf16 or fp32):

        optimizer   12 / W: fp32 master and two moments, in fp32 too; ZeRO 0 in fp32 has no copy, 8
        gradients   2 or 4, which ZeRO 2 and 3 shard, and 4 / W for the update's fp32 copy (ZeRO 0 in fp32 has none)

    `loading` is what a rank holds before anything is sharded: every rank reads the whole model, in ZeRO 3 as well.
    """
    width = 2 if config.model.dtype == "bf16" else 4
    stage, world = config.deepspeed.zero_stage, plan.world
    plain = stage == 0 and width == 4  # torch's own AdamW on the model's own weights
    sharded = world if stage else 1
    weights = total * width / (world if stage == 3 else 1)
    gradients = trainable * (width / (world if stage >= 2 else 1) + (0 if plain else 4 / sharded))
    optimizer = trainable * (8 if plain else 12 / sharded)
    parts = {"weights": weights, "gradients": gradients, "optimizer": optimizer}
    parts |= {"total": sum(parts.values()), "loading": float(total * width)}
    return {name: size / 1024**3 for name, size in parts.items()}
