"""The DeepSpeed configuration as DeepSpeed itself reads it, and how much memory a run will take."""

import logging
import re
from typing import Any

import torch.distributed

from configs.batch_plan import BatchPlan
from configs.deepspeed_settings import deepspeed_settings
from configs.errors import ConfigError
from configs.run import RunConfig
from train.distributed.world import import_deepspeed


def deepspeed_config(config: RunConfig, plan: BatchPlan) -> dict[str, Any]:
    """The dictionary for `deepspeed.initialize`.

    Raises `ConfigError` if `deepspeed.base` is unreadable, disagrees with the config, or is rejected by DeepSpeed.
    """
    settings = deepspeed_settings(config, plan)
    if config.deepspeed.base is not None:  # what is generated needs no check, and DeepSpeed's import takes a second
        _read_by_deepspeed(settings, config.deepspeed.base)
    return settings


def _read_by_deepspeed(settings: dict[str, Any], path: str) -> None:
    """Raise `ConfigError` with what DeepSpeed's own class says against `settings`, in one line."""
    import_deepspeed()
    from deepspeed.runtime.config import DeepSpeedConfig

    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    met = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1  # DeepSpeed asks as well
    known = settings["train_micro_batch_size_per_gpu"] * settings["gradient_accumulation_steps"] * met
    try:
        DeepSpeedConfig(settings | {"train_batch_size": known})
    except Exception as error:  # pydantic's, assertions, and whatever a wrong type causes
        raise ConfigError(f"deepspeed.base {path} is rejected by DeepSpeed: {_one_line(error)}; correct it") from error


def _one_line(error: Exception) -> str:
    """What `error` says, without addresses of web pages.

    A pydantic error has one entry a field: where it is, what is wrong, which value.
    """
    entries = getattr(error, "errors", None)
    if callable(entries):
        return "; ".join(
            f"{'.'.join(str(part) for part in entry['loc']) or 'a combination of values'}: {entry['msg']} "
            f"(got {str(entry['input'])[:80]})"
            for entry in entries()
        )
    return re.sub(r"\s+", " ", str(error))[:300] or type(error).__name__


def memory_estimate(total: int, trainable: int, config: RunConfig, plan: BatchPlan) -> dict[str, float]:
    """GiB per rank for weights, gradients and optimizer state in the update (activations are not counted).

    Bytes per trained weight, from the tensors allocated by DeepSpeed 0.19.8 (W ranks; 2 bytes in bf16, 4 in fp32):

        optimizer   12 / W: fp32 master and two moments, in fp32 too; ZeRO 0 in fp32 has no copy, 8
        gradients   2 or 4, which ZeRO 2 and 3 shard, and 4 / W for the update's fp32 copy (ZeRO 0 in fp32 has none)

    `loading` is a rank's memory before sharding: every rank reads the whole model, also in ZeRO 3.
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
