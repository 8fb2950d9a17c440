"""The DeepSpeed configuration of a run, generated in this one place, on the base of the file `deepspeed.base` if given.

Batch sizes are multiplied here once. What a file adds without a change of the result is taken over; what contradicts
the config, or does what another setting is for, is an error that names the setting. Nothing here imports DeepSpeed:
`launch.preflight` checks a file on a login node, `train.optimization.zero` shows it to DeepSpeed's own class as well.
"""

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from configs.batch_plan import BatchPlan
from configs.deepspeed_file import OFFLOADS, ZERO, read_deepspeed_file
from configs.errors import ConfigError
from configs.run import RunConfig

TUNING = frozenset(("contiguous_gradients",))
"""Keys of `zero_optimization` that are generated and whose value never changes the result: the file's value wins.
Bucket sizes and `overlap_comm` depend on what is trained (`gradient_buckets`), and a file's values win as well."""
KEPT = frozenset(
    "wall_clock_breakdown memory_breakdown dump_state disable_python_gc comms_logger flops_profiler timers log_level "
    "aio steps_per_print".split()
)
"""Top-level keys that are taken over: logs, measurements, and the disk's speed."""
KEPT_TYPES: dict[str, type | tuple[type, ...]] = {
    "wall_clock_breakdown": bool, "memory_breakdown": bool, "dump_state": bool, "disable_python_gc": bool,
    "log_level": str, "steps_per_print": (int, float),
}  # fmt: skip
"""Types of those that are no objects."""
WITHOUT_EFFECT = frozenset("checkpoint dataloader_drop_last vocabulary_size zero_force_ds_cpu_optimizer seed".split())
"""Top-level keys about what DeepSpeed is not used for: its checkpoints, data loader and optimizers. Left out."""
NEUTRAL = {
    "prescale_gradients": False, "gradient_predivide_factor": 1.0, "communication_data_type": "fp32",
    "sparse_gradients": False, "disable_allgather": False, "zero_allow_untested_optimizer": True,
}  # fmt: skip
"""Top-level keys and the only value that they may have."""
NEUTRAL_ZERO = {
    "zero_quantized_weights": False, "zero_quantized_nontrainable_weights": False, "zero_quantized_gradients": False,
    "zero_hpz_partition_size": 1, "compute_grad_norm": True, "legacy_stage1": False, "elastic_checkpoint": False,
    "zenflow": None,
}  # fmt: skip
NEUTRAL_OFFLOAD = {"ratio": 1.0, "super_offload": False}
NEUTRAL_BF16 = {
    "bf16_master_weights_and_grads": False, "bf16_optimizer_states": False, "immediate_grad_update": False,
    "check_grad_overflow": True,
}  # fmt: skip
SAVING = frozenset(("stage3_gather_16bit_weights_on_model_save", "stage3_gather_fp16_weights_on_model_save"))
"""Keys of `zero_optimization` for DeepSpeed's own way to save a model, which is not used: left out."""
PRECISIONS = ("fp16", "amp", "torch_autocast")
LOGGERS = ("tensorboard", "wandb", "csv_monitor", "comet")
SETTINGS = {
    "train_batch_size": "train.global_batch",
    "train_micro_batch_size_per_gpu": "train.micro_batch",
    "gradient_clipping": "optim.clip_norm",
    f"{ZERO}.stage": "deepspeed.zero_stage",
}
OPTIMIZER = {"betas": "betas", "eps": "eps", "weight_decay": "weight_decay"}
"""Parameters of a file's AdamW and the setting in `optim` that each must agree with."""


def deepspeed_settings(config: RunConfig, plan: BatchPlan) -> dict[str, Any]:
    """The dictionary for `deepspeed.initialize`.

    Raises `ConfigError` if `deepspeed.base` is unreadable or disagrees with the config: everything that does, at once.
    """
    ours = _generated(config, plan)
    if config.deepspeed.base is None:
        return ours
    base = read_deepspeed_file(Path(config.deepspeed.base))
    found = [*_top_problems(base, ours, config), *_zero_problems(base.get(ZERO, {}), config)]
    if found:
        raise ConfigError(f"deepspeed.base {config.deepspeed.base}: {'; '.join(found)}")
    return _merged(base, ours)


def _generated(config: RunConfig, plan: BatchPlan) -> dict[str, Any]:
    stage = config.deepspeed.zero_stage
    zero: dict[str, Any] = {"stage": stage}
    if stage:
        zero |= {"contiguous_gradients": True}
    if stage == 3:
        zero |= {"stage3_gather_16bit_weights_on_model_save": False}
    for key in OFFLOADS:
        device = getattr(config.deepspeed, key)
        if device != "none":
            zero[key] = {"device": device} | ({"nvme_path": config.deepspeed.nvme_path} if device == "nvme" else {})
    settings: dict[str, Any] = {
        "train_batch_size": plan.global_batch,
        "train_micro_batch_size_per_gpu": plan.micro_batch,
        "gradient_accumulation_steps": plan.accumulation,
        "gradient_clipping": config.optim.clip_norm,
        ZERO: zero,
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 1_000_000_000,
        "bf16": {"enabled": config.model.dtype == "bf16"},
    }
    if config.deepspeed.offload_optimizer != "none":
        settings["zero_force_ds_cpu_optimizer"] = False
    return settings


def _top_problems(base: Mapping[str, Any], ours: Mapping[str, Any], config: RunConfig) -> Iterator[str]:
    """What is wrong with the file outside of `zero_optimization`."""
    for key, value in base.items():
        if key in WITHOUT_EFFECT or key == ZERO or (_disabled(value) and key not in ours):
            continue
        if key in KEPT:
            if not isinstance(value, KEPT_TYPES.get(key, dict)):
                yield f"{key} {value!r} has the wrong type; remove it"
        elif key in NEUTRAL:
            if value != NEUTRAL[key]:
                yield f"{key} {value!r} is not supported; remove it"
        elif key == "optimizer":
            yield from _optimizer_problems(value, config)
        elif key == "scheduler":
            if value.get("params"):
                names = ", ".join(map(str, value["params"]))
                yield f"scheduler sets {names}; remove it, and set optim.schedule and optim.warmup_ratio"
        elif key == "bf16":
            if value.get("enabled", ours[key]["enabled"]) != ours[key]["enabled"]:
                yield f"bf16.enabled is {value['enabled']!r} with model.dtype {config.model.dtype}; set model.dtype"
            yield from _unsupported("bf16", value, NEUTRAL_BF16)
        elif key in PRECISIONS:
            if _enabled(value):
                yield f"{key} is enabled; the precision is model.dtype (bf16 or fp32): remove it"
        elif key == "activation_checkpointing":
            if any(
                value.values() if isinstance(value, dict) else [value]
            ) and config.model.activation_checkpointing in (False, "auto"):
                yield f"{key} is on; set model.activation_checkpointing=true, or remove it"
        elif key in LOGGERS:
            if _enabled(value):
                yield f"{key} is enabled; metrics are in metrics.jsonl and, with logging.wandb, in W&B: remove it"
        elif key in ours:
            if value != ours[key]:
                yield _contradiction(key, value, ours[key])
        else:
            yield f"{key} is not supported{_meant(key, ours)}; remove it"


def _zero_problems(zero: Mapping[str, Any], config: RunConfig) -> Iterator[str]:
    stage = config.deepspeed.zero_stage
    if zero.get("stage", stage) != stage:
        yield _contradiction(f"{ZERO}.stage", zero["stage"], stage)
    yield from _unsupported(ZERO, zero, NEUTRAL_ZERO)
    for key in OFFLOADS:
        block, device = zero.get(key, {}), getattr(config.deepspeed, key)
        if block and block["device"] != device:
            yield _contradiction(f"{ZERO}.{key}.device", block["device"], device, f"deepspeed.{key}")
        if block.get("device") == "nvme" and block.get("nvme_path") not in (None, config.deepspeed.nvme_path):
            ours = config.deepspeed.nvme_path or "null"
            yield _contradiction(f"{ZERO}.{key}.nvme_path", block["nvme_path"], ours, "deepspeed.nvme_path")
        yield from _unsupported(f"{ZERO}.{key}", block, NEUTRAL_OFFLOAD)


def _unsupported(name: str, block: Mapping[str, Any], neutral: Mapping[str, Any]) -> Iterator[str]:
    """Keys of `block` whose value is not the only one that they may have."""
    for key, value in neutral.items():
        if block.get(key) not in (value, None):
            yield f"{name}.{key} {block[key]!r} is not supported; remove it"


def _optimizer_problems(block: Mapping[str, Any], config: RunConfig) -> Iterator[str]:
    kind = str(block.get("type", "AdamW"))
    if kind.lower() not in ("adam", "adamw"):
        yield f"optimizer is {kind}; only AdamW is supported: remove it, and set optim.lr_language and so on"
        return
    parameters, settings = block.get("params", {}), dict(OPTIMIZER)
    settings["lr"] = "lr_projector" if config.model.mode == "projector" else "lr_language"
    for name, value in (parameters if isinstance(parameters, dict) else {}).items():
        if name in settings:
            ours = getattr(config.optim, settings[name])
            ours = list(ours) if isinstance(ours, tuple) else ours
            if value != ours:
                yield _contradiction(f"optimizer.params.{name}", value, ours, f"optim.{settings[name]}")
        elif name != "torch_adam" and not (name in ("adam_w_mode", "bias_correction") and value):
            yield f"optimizer.params.{name} {value!r} is not supported; remove it"


def _contradiction(name: str, theirs: object, ours: object, setting: str | None = None) -> str:
    setting = setting or SETTINGS.get(name)
    if isinstance(theirs, str) and theirs == str(ours):
        return f"{name} is the text {theirs!r}; write the number without quotes"
    said = f"{name} is {theirs!r}, this run has {ours!r}"
    if setting is None:
        return f"{said}, from train.global_batch, train.micro_batch and the number of ranks; remove it"
    shown = str(theirs).replace(" ", "")
    return f"{said}; set {setting}={shown}, or remove it from the file"


def _enabled(block: object) -> bool:
    return bool(block.get("enabled") if isinstance(block, dict) else block)


def _disabled(value: object) -> bool:
    return value is None or value is False or (isinstance(value, dict) and (not value or value.get("enabled") is False))


def _meant(key: str, ours: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(key, [*ours, *KEPT, *NEUTRAL, "optimizer", "scheduler"], 1, 0.8)
    return f" (meant: {close[0]}?)" if close else ""


def _merged(base: Mapping[str, Any], ours: Mapping[str, Any]) -> dict[str, Any]:
    """Ours, and what may be taken over from `base`, which holds no contradiction."""
    merged = {key: value for key, value in base.items() if key in KEPT and value is not None} | {
        key: value for key, value in ours.items() if key not in KEPT or key not in base
    }
    theirs = {key: value for key, value in base.get(ZERO, {}).items() if key not in SAVING}
    merged[ZERO] = theirs | {key: value for key, value in ours[ZERO].items() if key not in TUNING & theirs.keys()}
    for key in OFFLOADS:
        if key in ours[ZERO]:
            merged[ZERO][key] = theirs.get(key, {}) | ours[ZERO][key]
    merged["bf16"] = dict(base.get("bf16", {})) | ours["bf16"]
    return merged
