"""Settings of training: optimizer, loss, data and batches, the loss-spike monitor."""

import math
from dataclasses import dataclass

from configs.errors import ConfigError
from configs.mixing import check_shares, check_weights
from configs.section import Section, setting

CATCHABLE = ("SIGTERM", "SIGINT", "SIGUSR1", "SIGUSR2", "SIGHUP", "SIGXCPU")  # allowed in train.stop_signals


@dataclass(frozen=True, kw_only=True)
class OptimConfig(Section):
    """AdamW with a learning-rate schedule; one peak learning rate for each part of the model."""

    lr_projector: float = setting(2e-5, doc="Peak learning rate of the projector (paper: 2e-5).", at_least=0)
    lr_language: float = setting(
        2e-4, doc="Peak learning rate of the language model or its LoRA (paper: 2e-4).", at_least=0
    )
    lr_vision: float = setting(
        0.0,
        doc="Peak learning rate of the vision tower or its LoRA; 0 freezes it (modes `full` and `selective`).",
        at_least=0,
    )
    lr_probe: float = setting(
        1e-3,
        doc="Peak learning rate of the linear probe that `loss.probe` adds (paper's probes on frozen states: 1e-3).",
        above=0,
    )
    weight_decay: float = setting(
        0.0,
        doc="Decoupled weight decay of matrices; biases and norms have none (paper: LLaVA 0, BLIP-2 0.05).",
        at_least=0,
    )
    betas: tuple[float, float] = setting((0.9, 0.999), doc="AdamW's decay rates of the two moments.")
    eps: float = setting(1e-8, doc="AdamW's epsilon.", above=0)
    clip_norm: float = setting(
        1.0, doc="Global gradient norm to clip at; 0: no clipping (as the paper's authors).", at_least=0
    )
    update_clip: str = setting(
        "none",
        doc="`stable`: if the gradient is much larger than AdamW's second moment, the step is reduced (StableAdamW).",
        choices=("none", "stable"),
    )
    schedule: str = setting("cosine", doc="Learning-rate schedule after warm-up.", choices=("cosine", "constant"))
    warmup_ratio: float = setting(
        0.03, doc="Fraction of all steps with linear learning-rate warm-up.", at_least=0, at_most=1
    )
    warmup_steps: int | None = setting(
        None, doc="Steps of linear learning-rate warm-up, in place of warmup_ratio (BLIP-2: 1,000).", at_least=0
    )


@dataclass(frozen=True, kw_only=True)
class LossConfig(Section):
    """How token losses become one number."""

    reduction: str = setting(
        "token",
        doc="Mean over the global batch's target `token`s, of `sample` means, or of `micro_batch` means (LLaVA).",
        choices=("token", "sample", "micro_batch"),
    )
    class_weights: str = setting(
        "none",
        doc="Weight of a sample by its class's entries in an epoch: `inverse` to them or to their square root "
        "(`inverse_sqrt`); the mean over the entries is 1. The loss is the weighted mean. Samples without a class: 1.",
        choices=("none", "inverse", "inverse_sqrt"),
    )
    weight_of_class: dict[str, float] = setting(
        dict, doc="Class name to a factor of its samples' weights, as in {cat: 2.0}; others have 1."
    )
    probe: float = setting(
        0.0,
        doc="Weight of a linear probe's cross entropy over the classes, added to the loss; 0: no probe. Above 0, a "
        "learned token behind each image with a class, and a linear layer at its last hidden state, are "
        "trained with the model (Appendix C.5 gives no weight).",
        at_least=0,
    )

    def __post_init__(self) -> None:
        """Raise `ConfigError` for a weight that is no positive number."""
        super().__post_init__()
        check_weights(self.weight_of_class)


def _orders_samples(train: "TrainConfig") -> bool:
    """Whether the batching decides the samples of each step; with any other it decides only who runs which."""
    return train.batching == "llava_groups"


@dataclass(frozen=True, kw_only=True)
class TrainConfig(Section):
    """Which shards are trained on, for how long, in which batches."""

    sources: tuple[str, ...] = setting(tuple, doc="Names of the sources trained on, concatenated and shuffled.")
    heldout: tuple[str, ...] = setting(
        tuple, doc="Names of the sources whose loss is watched, never trained on.", changes_result=False
    )
    passes_per_epoch: dict[str, float] = setting(
        dict, doc="Source name to passes over it per epoch: 2.5 is two full passes plus a random half; default 1."
    )
    shares: dict[str, float] = setting(
        dict,
        doc="Source name to its share of an epoch, in place of passes: {a: 0.7, b: 0.3}. An epoch is as long as one "
        "pass over all sources.",
    )
    share_of: str = setting(
        "samples",
        doc="What `shares` divide: `samples` (the probability of a source), `tokens`, or `supervised` tokens, as "
        "counted for this model.",
        choices=("samples", "tokens", "supervised"),
    )
    balance: str = setting(
        "none",
        doc="How often a class comes in an epoch, within its source: as it is in the data (`none`), each class "
        "equally often (`equal`), or by the square root of its size (`sqrt`). An epoch keeps its length.",
        choices=("none", "equal", "sqrt"),
    )
    shuffle_block: int = setting(
        2_097_152,
        doc="Samples per shuffled block, after shuffling the shards; by default all of ImageNet and 665K. "
        "Small blocks need a smaller shard cache but mix badly if shards are sorted by class: a block of 262,144 "
        "ImageNet samples has about 300 classes (the dry run prints the number).",
        at_least=1,
    )
    epochs: int = setting(1, doc="Epochs: passes over the sources, counted with `passes_per_epoch`.", at_least=1)
    max_steps: int | None = setting(
        None, doc="Stop after this many optimizer steps (the schedule ends there too).", at_least=1
    )
    global_batch: int = setting(64, doc="Samples per optimizer step over all ranks.", at_least=1)
    micro_batch: int | str = setting(
        "auto",
        doc="Samples per forward on one rank, or `auto`: the largest divisor of a rank's share up to micro_batch_cap"
        " that fits the GPU's memory (where the result depends on it, memory does not decide).",
        changes_result=False,
    )
    micro_batch_cap: int = setting(16, doc="Upper limit of an `auto` micro-batch.", at_least=1, changes_result=False)
    batching: str = setting(
        "padded",
        doc="Micro-batches: `padded`; `grouped` by similar length, with less padding; `packed` without padding; "
        "`llava_groups`: the order of LLaVA's sampler too, batches with or without images by number of words.",
        choices=("padded", "grouped", "packed", "llava_groups"),
        changes_result=_orders_samples,
    )
    token_budget: int = setting(
        8192,
        doc="Maximum tokens per packed micro-batch on one rank (micro_batch has no effect there).",
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
        doc="A sample that cannot be read or trained on (`</s>` in a text, a question longer than chat.max_length):"
        " `stop`, or `skip` it (weight 0, and counted).",
        choices=("stop", "skip"),
    )
    last_batch: str = setting(
        "drop",
        doc="The incomplete last batch of an epoch: `drop` it, `pad` it with samples of weight 0, or `repeat` the "
        "epoch's first samples in it (LLaVA on several GPUs).",
        choices=("drop", "pad", "repeat"),
    )
    workers: int = setting(
        2, doc="Data-loading processes per rank; 0 loads in the training process.", at_least=0, changes_result=False
    )
    heldout_every: int = setting(
        0, doc="Steps between held-out losses; 0 measures only at the end.", at_least=0, changes_result=False
    )
    heldout_samples: int = setting(
        256, doc="Held-out samples per source and measurement.", at_least=1, changes_result=False
    )
    step_timeout: float = setting(
        1800.0,
        doc="Seconds without progress after which a run is ended as hanging, with the stuck rank named. A checkpoint "
        "that training waits for, before the next one or at the end, must be written within this time.",
        above=0,
        changes_result=False,
    )
    stop_signals: tuple[str, ...] = setting(
        ("SIGTERM", "SIGINT", "SIGUSR1", "SIGUSR2"),
        doc="Signals on which a run saves a checkpoint and stops. Remove those that a library of yours handles.",
        changes_result=False,
    )
    straggler_factor: float = setting(
        2.0, doc="A straggler takes this many times the median of the other ranks.", above=1, changes_result=False
    )
    straggler_seconds: float = setting(
        0.1, doc="A straggler costs at least this many seconds and 10 % of a step.", at_least=0, changes_result=False
    )
    deterministic: bool = setting(
        False,
        doc="Bit-identical resuming on GPUs too, by deterministic kernels: slower, 24 MiB more memory, and an error "
        "for an operation without a deterministic kernel.",
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
        for name, passes in self.passes_per_epoch.items():
            if name not in self.sources:
                listed = ", ".join(self.sources)
                raise ConfigError(f"passes_per_epoch names {name!r}, which is not in train.sources: {listed}")
            if not 0 < passes < math.inf:
                raise ConfigError(f"passes_per_epoch of {name!r} is {passes}; give a number above 0, such as 0.5 or 2")
        check_shares(self.shares, self.share_of, self.sources, self.passes_per_epoch)


def _monitor_acts(monitor: "MonitorConfig") -> bool:
    """Whether the monitor decides which steps are trained on; its detection settings then change the result."""
    return monitor.action != "log"


@dataclass(frozen=True, kw_only=True)
class MonitorConfig(Section):
    """The loss-spike monitor: it watches loss, gradient norm and update size per data source, reports, and may act.

    With any `action` but `log`, what it detects decides which steps are trained on, so the settings of the detection
    change the result too.
    """

    enabled: bool = setting(
        True, doc="Watch the run; with `action: log` the weights do not depend on it.", changes_result=False
    )
    window: int = setting(
        128, doc="Number of healthy steps in the baseline.", at_least=16, changes_result=_monitor_acts
    )
    warmup: int = setting(
        32, doc="Healthy steps before any step can be called an outlier.", at_least=8, changes_result=_monitor_acts
    )
    threshold: float = setting(
        8.0,
        doc="Robust z-score (median and MAD of log values) above which a value is an outlier.",
        above=0,
        changes_result=_monitor_acts,
    )
    rebaseline_after: int = setting(
        32,
        doc="Steps above the baseline after which an episode is classified and gets its own baseline.",
        at_least=8,
        changes_result=_monitor_acts,
    )
    accept_after: int = setting(
        1000,
        doc="Steps after which a level that never recovered becomes the new baseline.",
        at_least=64,
        changes_result=_monitor_acts,
    )
    update_size: bool = setting(
        True,
        doc="Also watch the root mean square of AdamW's update (one more pass over the moments); it is only reported.",
        changes_result=False,
    )
    action: str = setting(
        "log",
        doc="`log`: report only. `skip`: skip outlier steps. `rollback`, `rollback_lr` (with lower learning rates) or "
        "`stop`: when a loss does not recover. `escalate`: skip, rollback, rollback_lr, stop, in this order. Steps "
        "with a non-finite loss or gradient are always skipped.",
        choices=("log", "skip", "rollback", "rollback_lr", "stop", "escalate"),
    )
    max_skips: int = setting(
        8,
        doc="Steps skipped in a row before a rollback or, with `log`, `skip` and `stop`, the end of the run.",
        at_least=1,
    )
    max_rollbacks: int = setting(3, doc="Rollbacks in a run before it is stopped.", at_least=1)
    rollback_margin: int = setting(
        100, doc="Steps by which a rollback's checkpoint should precede the first bad step.", at_least=0
    )
    lr_backoff: float = setting(
        0.5, doc="Factor by which `rollback_lr` multiplies all later learning rates.", above=0, at_most=1
    )
    reset_moments: bool = setting(False, doc="Start AdamW's moments from zero after a rollback.")
    rewarm_steps: int = setting(20, doc="Steps of linear learning-rate warm-up after a rollback.", at_least=0)

    def __post_init__(self) -> None:
        """Raise `ConfigError` for an action without a monitor."""
        super().__post_init__()
        if self.action != "log" and not self.enabled:
            raise ConfigError(
                f"monitor.action is {self.action} but monitor.enabled is false; set it true, or action: log"
            )
