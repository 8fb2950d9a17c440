"""Settings of training: optimizer, loss, batches, DeepSpeed, the loss-spike monitor, checkpoints, logging."""

import math
from dataclasses import dataclass

from configs.errors import ConfigError
from configs.section import Section, setting

CATCHABLE = ("SIGTERM", "SIGINT", "SIGUSR1", "SIGUSR2", "SIGHUP", "SIGXCPU")  # what may ask a run to stop


@dataclass(frozen=True, kw_only=True)
class OptimConfig(Section):
    """AdamW with a cosine schedule; one peak learning rate for each part of the model."""

    lr_projector: float = setting(2e-5, doc="Peak learning rate of the projector (paper: 2e-5).", at_least=0)
    lr_language: float = setting(
        2e-4, doc="Peak learning rate of the language model or its LoRA (paper: 2e-4).", at_least=0
    )
    lr_vision: float = setting(
        0.0, doc="Peak learning rate of the vision tower in mode `full`; 0 freezes it.", at_least=0
    )
    weight_decay: float = setting(0.0, doc="Decoupled weight decay (paper: 0).", at_least=0)
    betas: tuple[float, float] = setting((0.9, 0.999), doc="AdamW's decay rates of the two moments.")
    eps: float = setting(1e-8, doc="AdamW's epsilon.", above=0)
    clip_norm: float = setting(1.0, doc="Largest global gradient norm; 0 turns clipping off.", at_least=0)
    update_clip: str = setting(
        "none",
        doc="`stable`: a parameter whose gradient outgrows AdamW's second moment takes a smaller step (StableAdamW).",
        choices=("none", "stable"),
    )
    schedule: str = setting("cosine", doc="Shape of the rate after warm-up.", choices=("cosine", "constant"))
    warmup_ratio: float = setting(0.03, doc="Fraction of all steps over which the rate rises.", at_least=0, at_most=1)


@dataclass(frozen=True, kw_only=True)
class LossConfig(Section):
    """How token losses become one number."""

    reduction: str = setting(
        "token",
        doc="Mean over the global batch's target `token`s, of `sample` means, or of `micro_batch` means (LLaVA).",
        choices=("token", "sample", "micro_batch"),
    )


@dataclass(frozen=True, kw_only=True)
class TrainConfig(Section):
    """Which shards are trained on, for how long, in which batches."""

    sources: tuple[str, ...] = setting(tuple, doc="Names of the sources trained on, concatenated and shuffled.")
    heldout: tuple[str, ...] = setting(
        tuple, doc="Names of the sources whose loss is watched, never trained on.", changes_result=False
    )
    weights: dict[str, float] = setting(
        dict, doc="Source name to passes over it in an epoch: 2.5 is two and a seeded half; sources not named count 1."
    )
    shuffle_block: int = setting(
        2_097_152,
        doc="Samples shuffled together after the shards were permuted; by default all of ImageNet and 665K. Small "
        "blocks read few shards at a time, as a small cache needs, but mix badly where shards are sorted by class: "
        "262,144 of ImageNet hold 300 of its classes (the dry run counts them).",
        at_least=1,
    )
    epochs: int = setting(1, doc="Epochs: passes over the sources, or over what `weights` makes of them.", at_least=1)
    max_steps: int | None = setting(
        None, doc="Stop after this many optimizer steps (the schedule ends there too).", at_least=1
    )
    global_batch: int = setting(64, doc="Samples per optimizer step over all ranks.", at_least=1)
    micro_batch: int | str = setting(
        "auto", doc="Samples per forward on one rank, or `auto`: the largest that divides.", changes_result=False
    )
    micro_batch_cap: int = setting(16, doc="Upper limit of an `auto` micro-batch.", at_least=1, changes_result=False)
    batching: str = setting(
        "padded",
        doc="How a step's samples share forwards: `padded`, `grouped` by length to pad less, or `packed` end to end.",
        choices=("padded", "grouped", "packed"),
        changes_result=False,
    )
    token_budget: int = setting(
        8192,
        doc="Most tokens of a packed forward on one rank (micro_batch has no effect there).",
        at_least=8,
        changes_result=False,
    )
    text_only: str = setting(
        "keep",
        doc="Records without an image, which give no gradient in mode projector: `keep` (as LLaVA does) or `drop`.",
        choices=("keep", "drop"),
    )
    unreadable: str = setting(
        "stop",
        doc="A sample that went bad after the build makes training `stop`, or `skip` it: it weighs 0 and is counted.",
        choices=("stop", "skip"),
    )
    last_batch: str = setting(
        "drop",
        doc="The incomplete last batch of an epoch: `drop` it, or `pad` it with samples of weight 0.",
        choices=("drop", "pad"),
    )
    workers: int = setting(
        2, doc="Data-loading processes per rank; 0 loads in the training process.", at_least=0, changes_result=False
    )
    eval_every: int = setting(
        0, doc="Steps between held-out losses; 0 measures only at the end.", at_least=0, changes_result=False
    )
    eval_samples: int = setting(
        256, doc="Held-out samples per source and measurement.", at_least=1, changes_result=False
    )
    step_timeout: float = setting(
        1800.0,
        doc="Seconds without progress after which a hanging step is given up: who hangs is named, and every rank ends. "
        "A checkpoint for which training waits, before the next one or at the end, must be on the disk by then.",
        above=0,
        changes_result=False,
    )
    stop_signals: tuple[str, ...] = setting(
        ("SIGTERM", "SIGINT", "SIGUSR1", "SIGUSR2"),
        doc="Signals after which a run saves and stops. Take out what a library of yours needs for itself.",
        changes_result=False,
    )
    straggler_factor: float = setting(
        2.0,
        doc="A rank that takes this many times as long as the median of the others is reported as a straggler.",
        above=1,
        changes_result=False,
    )
    deterministic: bool = setting(
        False,
        doc="Resume bit-identically on a GPU too: deterministic kernels and attention, which are slower, ~24 MiB more, "
        "and an error where a kernel has no deterministic form.",
        changes_result=False,
    )

    def __post_init__(self) -> None:
        """Raise `ConfigError` for a micro-batch that is neither a number nor `auto`."""
        super().__post_init__()
        if isinstance(self.micro_batch, str) and self.micro_batch != "auto":
            raise ConfigError(f"micro_batch is {self.micro_batch!r}; give a number of samples or 'auto'")
        for name in self.stop_signals:
            if name not in CATCHABLE:
                raise ConfigError(f"stop_signals names {name!r}; choose from: {', '.join(CATCHABLE)}")
        for name, weight in self.weights.items():
            if name not in self.sources:
                raise ConfigError(f"weights names {name!r}, which is not in train.sources: {', '.join(self.sources)}")
            if not 0 < weight < math.inf:
                raise ConfigError(f"the weight of {name!r} is {weight}; give passes above 0, such as 0.5 or 2")


@dataclass(frozen=True, kw_only=True)
class DeepSpeedConfig(Section):
    """What the generated DeepSpeed configuration contains beside batch sizes and precision."""

    zero_stage: int = setting(
        0,
        doc="ZeRO stage: 0 nothing, 1 optimizer, 2 + gradients, 3 + weights sharded.",
        choices=(0, 1, 2, 3),
        changes_result=False,
    )
    base: str | None = setting(
        None, doc="Your own DeepSpeed JSON; settings that contradict this file are errors.", changes_result=False
    )
    offload_optimizer: str = setting(
        "none", doc="Where the optimizer state lives.", choices=("none", "cpu", "nvme"), changes_result=False
    )
    offload_param: str = setting(
        "none", doc="Where the weights live (ZeRO-3 only).", choices=("none", "cpu", "nvme"), changes_result=False
    )
    nvme_path: str | None = setting(None, doc="Folder on a local disk for nvme offload.", changes_result=False)

    def __post_init__(self) -> None:
        """Raise `ConfigError` for offloads that the stage does not have."""
        super().__post_init__()
        if self.offload_param != "none" and self.zero_stage != 3:
            raise ConfigError(
                f"offload_param is {self.offload_param} with zero_stage {self.zero_stage}; it needs zero_stage: 3"
            )
        if self.offload_optimizer != "none" and self.zero_stage == 0:
            raise ConfigError(
                f"offload_optimizer is {self.offload_optimizer} with zero_stage 0; it needs zero_stage 1, 2 or 3"
            )
        if "nvme" in (self.offload_optimizer, self.offload_param) and not self.nvme_path:
            raise ConfigError("nvme offload needs nvme_path: a folder on a local disk")


@dataclass(frozen=True, kw_only=True)
class MonitorConfig(Section):
    """The loss-spike monitor: it watches loss, gradient norm and update size per data source, reports, and may act."""

    enabled: bool = setting(True, doc="Watch the run. Watching never changes it.", changes_result=False)
    window: int = setting(128, doc="Healthy steps in the baseline.", at_least=16, changes_result=False)
    warmup: int = setting(
        32, doc="Healthy steps before anything is judged an outlier.", at_least=8, changes_result=False
    )
    threshold: float = setting(
        8.0, doc="Robust z-score (median/MAD of logs) that makes an outlier.", above=0, changes_result=False
    )
    reseed_after: int = setting(
        32,
        doc="Steps out of the baseline after which a spike is named, and values are compared with its own level.",
        at_least=8,
        changes_result=False,
    )
    accept_after: int = setting(
        1000,
        doc="Steps after which a level that never recovered is taken for normal.",
        at_least=64,
        changes_result=False,
    )
    update_size: bool = setting(
        True,
        doc="Also watch the root mean square of AdamW's update (one more pass over the moments).",
        changes_result=False,
    )
    action: str = setting(
        "log",
        doc="What follows: `log` only; `skip` outlying steps; on lasting trouble `rollback`, `rollback_lr` (at a lower "
        "rate) or `stop`; `ladder`: skip, rollback, rollback_lr, stop in turn. Non-finite steps are always skipped.",
        choices=("log", "skip", "rollback", "rollback_lr", "stop", "ladder"),
    )
    max_skips: int = setting(
        8, doc="Steps skipped in a row before the next measure; after `log` and `skip` that is to stop.", at_least=1
    )
    max_rollbacks: int = setting(3, doc="Rollbacks of a run before it is stopped.", at_least=1)
    rollback_margin: int = setting(
        100, doc="Steps by which a checkpoint must be older than the trouble, if there is one.", at_least=0
    )
    lr_backoff: float = setting(
        0.5, doc="What `rollback_lr` multiplies all later learning rates by.", above=0, at_most=1
    )
    reset_moments: bool = setting(False, doc="Start AdamW's moments from zero after a rollback.")
    rewarm_steps: int = setting(20, doc="Steps over which the rate rises again after a rollback.", at_least=0)

    def __post_init__(self) -> None:
        """Raise `ConfigError` for an action without anything to decide it."""
        super().__post_init__()
        if self.action != "log" and not self.enabled:
            raise ConfigError(
                f"monitor.action is {self.action} but monitor.enabled is false; set it true, or action: log"
            )


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig(Section):
    """When the training state is saved and how many copies are kept."""

    every: int = setting(
        500, doc="Optimizer steps between checkpoints; the last step is always saved.", at_least=1, changes_result=False
    )
    keep_last: int = setting(3, doc="Newest checkpoints kept.", at_least=1, changes_result=False)
    keep_every: int = setting(
        0, doc="Also keep every checkpoint whose step divides by this; 0 keeps none.", at_least=0, changes_result=False
    )
    asynchronous: bool = setting(
        True,
        doc="Write beside training, which waits only while the state is copied to the leading rank's memory (12 bytes "
        "a trained weight).",
        changes_result=False,
    )
    export: bool = setting(True, doc="Write the export folder when training ends.", changes_result=False)


@dataclass(frozen=True, kw_only=True)
class LoggingConfig(Section):
    """Where metrics go beside metrics.jsonl. Keys come from the environment only, never from here."""

    wandb: str = setting("off", doc="Weights & Biases.", choices=("off", "offline", "online"), changes_result=False)
    project: str = setting("vlm-classify", doc="W&B project.", changes_result=False)
    entity: str | None = setting(None, doc="W&B team or user.", changes_result=False)
    every: int = setting(1, doc="Steps between lines in metrics.jsonl.", at_least=1, changes_result=False)
