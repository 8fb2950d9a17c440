"""Every setting of a run and of an evaluation: typed, with its unit, and with whether it changes the result.

A YAML file fills these dataclasses (`configs.load`). A field's metadata holds its one-line documentation
and `changes_result`: two runs whose result-changing fields agree compute the same weights (up to the order of
floating-point sums); world size, micro-batch, workers, paths and cadences are free to differ, so a run may be
resumed elsewhere.
"""

import dataclasses
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from configs.errors import ConfigError

CATCHABLE = ("SIGTERM", "SIGINT", "SIGUSR1", "SIGUSR2", "SIGHUP", "SIGXCPU")  # what may ask a run to stop
NAME_PATTERN = re.compile(r"[A-Za-z0-9._-]{1,64}")


def setting(
    default: Any = dataclasses.MISSING,
    *,
    doc: str,
    changes_result: bool = True,
    choices: tuple[Any, ...] = (),
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
) -> Any:
    """A documented config field. A callable `default` is a factory; `at_least`, `above`, `at_most` bound numbers."""
    limits = {"choices": choices, "at_least": at_least, "above": above, "at_most": at_most}
    metadata = {"doc": doc, "changes_result": changes_result, **limits}
    if default is dataclasses.MISSING:
        return field(metadata=metadata)
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class Section:
    """A group of settings; checks each against its declared choices and limits."""

    def __post_init__(self) -> None:
        """Raise `ConfigError` naming the field, its value and what is allowed."""
        for spec in dataclasses.fields(self):
            _check_limits(spec, getattr(self, spec.name))


def _check_limits(spec: "dataclasses.Field[Any]", value: Any) -> None:
    limits = spec.metadata
    if limits.get("choices") and value not in limits["choices"]:
        allowed = ", ".join(map(str, limits["choices"]))
        raise ConfigError(f"{spec.name} is {value!r}; choose one of: {allowed}")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return
    if limits.get("at_least") is not None and value < limits["at_least"]:
        raise ConfigError(f"{spec.name} is {value}; it must be at least {limits['at_least']}")
    if limits.get("above") is not None and value <= limits["above"]:
        raise ConfigError(f"{spec.name} is {value}; it must be above {limits['above']}")
    if limits.get("at_most") is not None and value > limits["at_most"]:
        raise ConfigError(f"{spec.name} is {value}; it must be at most {limits['at_most']}")


def _check_name(value: str, what: str) -> None:
    if not NAME_PATTERN.fullmatch(value) or value.startswith((".", "-")):
        raise ConfigError(f"{what} is {value!r}; use 1 to 64 letters, digits, '.', '_' or '-', the first none of .-")


@dataclass(frozen=True, kw_only=True)
class SourceConfig(Section):
    """One raw dataset and the reader that understands it."""

    reader: str = setting(doc="Name of a reader in data_prep/readers (`python -m data_prep.build --list-readers`).")
    path: str | None = setting(
        None, doc="File or folder the reader reads; for tars also a URL or a pattern.", changes_result=False
    )
    options: dict[str, Any] = setting(dict, doc="Keyword options of the reader; unknown ones are refused.")


@dataclass(frozen=True, kw_only=True)
class DataConfig(Section):
    """Raw sources and the tar shards made of them."""

    shards: str = setting(
        "shards",
        doc="Folder of the shard sets, one subfolder a source; may be an http(s), s3 or gs URL.",
        changes_result=False,
    )
    cache_dir: str = setting(
        "shard_cache", doc="Folder for local copies of shards and tars behind a URL.", changes_result=False
    )
    cache_gib: float = setting(100.0, doc="Most GiB of such copies at any time.", above=0, changes_result=False)
    samples_per_shard: int = setting(1000, doc="Records per tar shard.", at_least=1, changes_result=False)
    decode_check: bool = setting(True, doc="Decode every image once while building; drop and name what fails.")
    max_drop_fraction: float = setting(
        0.001, doc="Largest fraction of records a build may drop before it fails.", at_least=0, at_most=1
    )
    sources: dict[str, SourceConfig] = setting(dict, doc="Source name to source; names become folder names.")

    def __post_init__(self) -> None:
        """Raise `ConfigError` if a source name could not be a folder name."""
        super().__post_init__()
        for name in self.sources:
            _check_name(name, "source name")


@dataclass(frozen=True, kw_only=True)
class LoraConfig(Section):
    """LoRA on the language model's linear layers (paper, Section 4.2: rank 128, alpha 256)."""

    rank: int = setting(128, doc="Rank of the update matrices.", at_least=1)
    alpha: float = setting(256.0, doc="The update is scaled by alpha / rank.", above=0)
    dropout: float = setting(0.05, doc="Dropout on the input of the update (LLaVA: 0.05).", at_least=0, at_most=0.99)
    targets: tuple[str, ...] = setting(
        lambda: ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
        doc="Linear layers, by the last part of their name, inside the language model only.",
    )


@dataclass(frozen=True, kw_only=True)
class ModelConfig(Section):
    """Which model is trained, and which part of it."""

    base: str = setting(doc="Folder or hub id of a LLaVA-1.5-style model.", changes_result=False)
    revision: str | None = setting(None, doc="Revision of a hub id; pin it for a run worth repeating.")
    dtype: str = setting("bf16", doc="Precision of weights and activations.", choices=("bf16", "fp32"))
    mode: str = setting("projector", doc="What trains beside nothing else.", choices=("projector", "lora", "full"))
    lora: LoraConfig = setting(LoraConfig, doc="Used by mode `lora`; the projector trains too.")
    attention: str = setting(
        "auto",
        doc="Attention kernel; auto takes flash_attention_2 if installed and on a GPU, else sdpa.",
        choices=("auto", "sdpa", "flash_attention_2", "flex_attention", "eager"),
        changes_result=False,
    )
    activation_checkpointing: bool = setting(
        False, doc="Recompute activations in the backward pass: less memory, ~1.4x the work.", changes_result=False
    )


@dataclass(frozen=True, kw_only=True)
class ChatConfig(Section):
    """How a conversation becomes tokens and an image becomes pixels."""

    markup: str = setting(
        "llava",
        doc="`llava` gives LLaVA's own token ids, `hf` those of transformers' processor.",
        choices=("llava", "hf"),
    )
    system_prompt: str = setting(
        "vicuna_v1", doc="`vicuna_v1`, `none`, or the text itself; it opens every conversation."
    )
    max_length: int = setting(
        2048, doc="Longest sequence in tokens, image tokens included; the rest is cut.", at_least=8
    )
    image_mode: str = setting(
        "pad",
        doc="`pad` to a square with the mean colour (LLaVA's training) or centre-`crop`.",
        choices=("pad", "crop"),
    )
    pixels: str = setting(
        "exact",
        doc="`exact`: byte for byte transformers' PIL processor; `fast`: within 2 of 255, in half the time."
        " Evaluations are always exact.",
        choices=("exact", "fast"),
    )
    unsupervised: str = setting(
        "error",
        doc="A sample without a supervised token is an `error`, or a counted `drop`.",
        choices=("error", "drop"),
    )


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

    normalisation: str = setting(
        "token",
        doc="Mean over the global batch's supervised `token`s, of `sample` means, or of `micro_batch` means (LLaVA).",
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
    tail: str = setting(
        "drop",
        doc="The incomplete last batch of an epoch: `drop` it or `pad` it with weight 0.",
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


@dataclass(frozen=True, kw_only=True)
class SlurmConfig(Section):
    """What your cluster needs to hear; `launch.submit` writes it into the job scripts."""

    partition: str | None = setting(None, doc="--partition", changes_result=False)
    account: str | None = setting(None, doc="--account", changes_result=False)
    qos: str | None = setting(None, doc="--qos", changes_result=False)
    constraint: str | None = setting(None, doc="--constraint", changes_result=False)
    cpus_per_task: int = setting(8, doc="CPU cores per rank.", at_least=1, changes_result=False)
    memory: str | None = setting(None, doc="--mem per node, for example 200G.", changes_result=False)
    time: str = setting(
        "24:00:00", doc="--time of the training job, [days-]hours:minutes:seconds.", changes_result=False
    )
    prep_tasks: int = setting(1, doc="Array tasks of the data_prep job.", at_least=1, changes_result=False)
    eval_tasks: int = setting(1, doc="Array tasks of each evaluation job.", at_least=1, changes_result=False)
    setup: tuple[str, ...] = setting(
        tuple, doc="Shell lines run first in every job, such as `module load cuda`.", changes_result=False
    )


@dataclass(frozen=True, kw_only=True)
class RunConfig(Section):
    """One training run: data, model, recipe, and the evaluations that follow it."""

    name: str = setting(doc="Name of the run; its files live in runs_dir/name.", changes_result=False)
    seed: int = setting(0, doc="Keys every random choice.", at_least=0)
    runs_dir: str = setting("runs", doc="Folder of all runs.", changes_result=False)
    data: DataConfig = setting(
        DataConfig,
        doc="Raw sources and shards.",
        changes_result=False,  # what was read is judged by the shards' fingerprints, not by how they were described
    )
    model: ModelConfig = setting(doc="The model.")
    chat: ChatConfig = setting(ChatConfig, doc="Tokens and pixels.")
    optim: OptimConfig = setting(OptimConfig, doc="Optimizer and schedule.")
    loss: LossConfig = setting(LossConfig, doc="Loss.")
    train: TrainConfig = setting(TrainConfig, doc="Length and batches.")
    deepspeed: DeepSpeedConfig = setting(DeepSpeedConfig, doc="DeepSpeed.")
    monitor: MonitorConfig = setting(MonitorConfig, doc="Loss-spike monitor.")
    checkpoint: CheckpointConfig = setting(CheckpointConfig, doc="Checkpoints.")
    logging: LoggingConfig = setting(LoggingConfig, doc="Metric sinks.")
    slurm: SlurmConfig = setting(SlurmConfig, doc="Cluster.")
    evaluate: tuple[str, ...] = setting(
        tuple, doc="Evaluation configs run on the export by launch.submit.", changes_result=False
    )

    def __post_init__(self) -> None:
        """Raise `ConfigError` for combinations that no run could have."""
        super().__post_init__()
        _check_name(self.name, "name")
        if not self.train.sources:
            raise ConfigError("train.sources is empty; name at least one source of data.sources")
        _check_sources_exist(self.train.sources + self.train.heldout, self.data.sources)
        both = sorted(set(self.train.sources) & set(self.train.heldout))
        if both:
            raise ConfigError(f"{both[0]!r} stands in train.sources and in train.heldout; keep it in one of them")
        if self.model.mode == "full" and self.optim.lr_vision == self.optim.lr_language == self.optim.lr_projector == 0:
            raise ConfigError("mode full with every learning rate 0 trains nothing; set one above 0")


def _check_sources_exist(names: tuple[str, ...], sources: Mapping[str, SourceConfig]) -> None:
    for name in names:
        if name not in sources:
            raise ConfigError(f"source {name!r} is not in data.sources; it has: {', '.join(sources) or 'none'}")


@dataclass(frozen=True, kw_only=True)
class ProtocolConfig(Section):
    """How a question is put and an answer is judged. Every knob is a field, so any mixture can be run."""

    name: str = setting("custom", doc="Name of the protocol, printed beside its hash.", changes_result=False)
    kind: str = setting(
        "open_world",
        doc="Which protocol. `features` stores the open question's states for linear heads (eval.probing sets it).",
        choices=("open_world", "closed_world", "class_scoring", "zero_shot", "multiple_choice", "features"),
    )
    prompt: str = setting("paper", doc="Classification wording by name (data_prep/prompts.py).")
    answer_prefix: str = setting("", doc="Text put into the assistant's mouth, such as \"Let's think step by step.\"")
    markup: str = setting(
        "family",
        doc="Words and tokens of a turn: `family` as the model was trained, `official` as the authors' code asks it, "
        "or one by name (train/chat.py); llava and hf as chat.markup; llava_doubled is llava but for answer_prefix, "
        "which opens a second turn: ASSISTANT:ASSISTANT: (authors' fine-tuned ImageWikiQA).",
        choices=(
            "family",
            "official",
            "llava",
            "llava_doubled",
            "hf",
            "hf_newline",
            "mistral",
            "mistral_tight",
            "question",
            "plain",
        ),
    )
    system_prompt: str = setting(
        "family", doc="`family`, `official`, `vicuna_v1`, `vicuna_human`, `none`, or the text itself."
    )
    image_mode: str = setting(
        "export",
        doc="As chat.image_mode, for LLaVA-1.5; `export` takes what the model's folder says, and suits every family.",
        choices=("pad", "crop", "export"),
    )
    image_size: int | None = setting(
        None,
        doc="Pixels a side that a BLIP's images are resized to, its position embeddings interpolated; null: its own.",
        at_least=1,
    )
    padding_side: str = setting(
        "left",
        doc="Where a batch's shorter questions are filled up. `left` changes no answer; with `right` the neighbours do "
        "(authors' code: `processor`, whatever the model's folder says, which is right for BLIP-2).",
        choices=("left", "right", "processor"),
    )
    classes: str | None = setting(
        None, doc="Class list of closed_world and class_scoring: a shipped list's name or a file."
    )
    candidates: int | None = setting(
        None, doc="Classes to choose from, the label among them, drawn by the item's id; null: all.", at_least=2
    )
    order: str = setting(
        "random",
        doc="Order of the classes in a closed-world question: drawn by the item's id, or the list's.",
        choices=("random", "fixed"),
    )
    candidate_draw: str = setting(
        "item",
        doc="What draws candidates and their order: the `item`'s id, or one `stream` over the shuffled data set, as an "
        "uninterrupted run of the authors' code.",
        choices=("item", "stream"),
    )
    class_quotes: bool = setting(True, doc="Quotes around the classes of a closed-world question, as in authors' code.")
    template: str = setting(
        "a photo of a {}", doc="Sentence of each class for kind zero_shot, {} its name (official: A photo of a {})."
    )
    class_match: str = setting(
        "equal",
        doc="When the best class of kind zero_shot is right: `equal` to the label, or by `match` (authors' code).",
        choices=("equal", "match"),
    )
    class_prefix: str = setting("", doc="Answer's beginning before each scored name; `official` is the authors'.")
    class_ids: str = setting(
        "in_context",
        doc="Tokens that are scored: those the name has after the prompt; `shifted`: those it has alone, read at the "
        "sentence's last places; `official`: shifted for BLIP, as in authors' code. Shifted costs a forward a name.",
        choices=("in_context", "shifted", "official"),
    )
    token_scores: str = setting(
        "log_probability",
        doc="What of a name's tokens is summed or averaged: log-probabilities, or probabilities (the paper's words).",
        choices=("log_probability", "probability"),
    )
    rule: str = setting("sum", doc="How a name's token scores make its score.", choices=("sum", "mean", "cfg"))
    guidance: float = setting(1.5, doc="Coefficient t of rule cfg; 1 is no guidance.", at_least=0)
    cfg_form: str = setting(
        "probability",
        doc="`probability`: t p + (1 - t) q (paper); `log`: the same of log-probabilities (authors' code).",
        choices=("probability", "log"),
    )
    cfg_prior: str = setting(
        "no_image",
        doc="The prior q: the question without its image (paper), or the mean over all images (authors' code).",
        choices=("no_image", "dataset_mean"),
    )
    cfg_mean: bool = setting(False, doc="Guide means over tokens instead of sums.")
    terminator: bool = setting(False, doc="Score the end token after each name, so that tiger can lose to tiger shark.")
    duplicates: str = setting(
        "any",
        doc="Of classes that share a name, `any` is right, or only the `first` (authors' code).",
        choices=("any", "first"),
    )
    show_image: bool = setting(True, doc="Multiple choice with its image, or with the words alone.")
    name_class: bool = setting(False, doc='Tell the class: "this object" is replaced by its name.')
    refuse_leaks: bool = setting(False, doc="Do not ask questions that name their class.")
    choice_parser: str = setting(
        "careful",
        doc="How a letter is found: eval/scorers.py's rules, or MMMU's as in the authors' code.",
        choices=("careful", "mmmu"),
    )
    unparsed: str = setting(
        "no_answer",
        doc="What an answer without a letter is: no answer, or (authors' code) a letter drawn by the item's id.",
        choices=("no_answer", "random"),
    )
    after_last: str | None = setting(
        None,
        doc="Only what follows the last occurrence of this text is judged; `official`: the authors' text for the "
        "model's family (ASSISTANT:, [/INST], Answer:).",
    )
    label_without: str = setting("", doc="Characters deleted from the label before it is looked for.")
    answer_without: str = setting("", doc="Characters deleted from the answer before it is judged.")
    match: str = setting(
        "contains",
        doc="`contains`: label anywhere in the answer; `word`: between word bounds; `exact`: equal, ignoring case.",
        choices=("contains", "word", "exact"),
    )
    synonyms: str | None = setting(
        None,
        doc="JSON file {class name: [accepted names]}, or `auto`: those of the class list; null: only the name counts.",
    )
    frequency_total: str = setting(
        "all_stages",
        doc="A class's frequency: its occurrences in all stages, or 0 where the first has none (authors' code).",
        choices=("all_stages", "if_in_first"),
    )
    frequency_names: str = setting(
        "whole",
        doc="A class's name beside its frequency: `whole`, or cut `before_hyphen` (authors' code, fine-tuned models).",
        choices=("whole", "before_hyphen"),
    )
    frequency_bins: str = setting(
        "open",
        doc="Bins of the frequency: powers of ten without an end, or the authors', which end before 100,000.",
        choices=("open", "official"),
    )
    max_new_tokens: int = setting(64, doc="Longest answer in tokens (paper's code: 64).", at_least=1)

    def __post_init__(self) -> None:
        """Raise `ConfigError` if a protocol lacks the class list that it needs."""
        super().__post_init__()
        if self.kind in ("closed_world", "class_scoring", "zero_shot") and self.classes is None:
            raise ConfigError(f"protocol.kind {self.kind} needs protocol.classes: a list's name, such as imagenet")
        if "{}" not in self.template:
            raise ConfigError(f"protocol.template is {self.template!r}; write {{}} where the class name belongs")
        if self.kind == "zero_shot" and self.rule == "cfg":
            raise ConfigError("protocol.rule is cfg, which guides a language model; kind zero_shot has none: use sum")


@dataclass(frozen=True, kw_only=True)
class ApiConfig(Section):
    """A model behind an API (`model: api:NAME`). Address and key come from the environment and are stored nowhere."""

    url_env: str = setting(
        "OPENAI_BASE_URL", doc="Environment variable with the address, such as https://host/v1.", changes_result=False
    )
    key_env: str = setting("OPENAI_API_KEY", doc="Environment variable with the key.", changes_result=False)
    concurrency: int = setting(8, doc="Requests under way at a time.", at_least=1, changes_result=False)
    timeout: float = setting(120.0, doc="Seconds after which a request is given up.", above=0, changes_result=False)
    attempts: int = setting(6, doc="How often a question is asked before it fails.", at_least=1, changes_result=False)
    backoff: float = setting(
        1.0,
        doc="Seconds before the second attempt, doubled each time up to 60; a server's Retry-After goes before.",
        at_least=0,
        changes_result=False,
    )
    give_up_after: int = setting(
        20, doc="Failed questions in a row after which the evaluation stops.", at_least=1, changes_result=False
    )
    temperature: float | None = setting(0.0, doc="Sampling temperature; null leaves it to the server.", at_least=0)
    length_field: str = setting(
        "max_tokens",
        doc="Name under which protocol.max_new_tokens is sent; newer models know only max_completion_tokens.",
        choices=("max_tokens", "max_completion_tokens", "none"),
    )
    image_detail: str | None = setting(None, doc="`detail` of an image, where the server knows it: low, high, auto.")


@dataclass(frozen=True, kw_only=True)
class ProbeConfig(Section):
    """Linear heads on frozen features (`python -m eval.probing`)."""

    part: str = setting(
        "auto",
        doc="What heads stand on: the `language_model`'s last layer, or the image `encoder`; auto: the encoder of a "
        "CLIP, the language model of all others.",
        choices=("auto", "language_model", "encoder"),
    )
    places: tuple[str, ...] = setting(
        ("0", "100", "200", "300", "400", "500", "600", "-3", "-2", "-1", "mean"),
        doc="Tokens of the question whose states are stored and get a head each, counted from 0 or, from the end, -1; "
        "`mean` over all. Default: Table 10's; Table 3 needs [-1, mean], a fifth of the disk.",
    )
    epochs: int = setting(
        500, doc="Passes over the training items (paper: 500; authors' code: ImageNet 100).", at_least=1
    )
    encoder_epochs: int = setting(
        300, doc="As epochs, of heads on an image encoder (paper: 300, ImageNet 40).", at_least=1
    )
    batch_size: int = setting(512, doc="Training items a step (paper: 512).", at_least=1)
    learning_rate: float = setting(1e-3, doc="Of Adam, without decay (paper: 1e-3).", above=0)
    shuffle: str = setting(
        "once",
        doc="Order of the training items: drawn `once` for all epochs, in `every_epoch`, or `official`: as in authors' "
        "code, every epoch for heads on an image encoder, once for those on a language model.",
        choices=("once", "every_epoch", "official"),
    )
    choose_epoch: str = setting(
        "held_out",
        doc="The epoch whose head counts: best on a `held_out` share of the training items; `best_on_test`: best on "
        "the test items themselves (paper, authors' code), and every report says so; or the `last`.",
        choices=("held_out", "best_on_test", "last"),
    )
    held_out: float = setting(
        0.1, doc="Share of the training items that choose_epoch held_out keeps from training.", above=0, at_most=0.9
    )
    seed: int = setting(0, doc="Keys the heads' first weights, the items' order and which are held out.", at_least=0)
    precision: str = setting(
        "auto",
        doc="Of the products; weights and moments stay fp32 (authors' code: fp32). `auto`: bf16 where the hardware "
        "multiplies it, else fp32: 1.7 times as fast, accuracies 0.2 points apart at most (480 and 2,000 test items).",
        choices=("fp32", "bf16", "auto"),
    )
    memory_gib: float = setting(
        8.0,
        doc="GiB that features laid out for training may take; what does not fit is read anew in every epoch.",
        above=0,
        changes_result=False,
    )

    def __post_init__(self) -> None:
        """Raise `ConfigError` for a place that is none, or named twice."""
        super().__post_init__()
        for place in self.places:
            if place != "mean" and not re.fullmatch(r"0|-?[1-9]\d*", place):
                raise ConfigError(f"places has {place!r}; a place is a token's number, such as 0 or -1, or mean")
        if not self.places or len(set(self.places)) < len(self.places):
            raise ConfigError(f"places is {list(self.places)}; name at least one place, and each once")


@dataclass(frozen=True, kw_only=True)
class EvalConfig(Section):
    """One evaluation: a model, a source of test items, a protocol."""

    name: str = setting(doc="Name of the evaluation; its files live in a folder of that name.", changes_result=False)
    model: str = setting(
        doc="Run, checkpoint, export or model folder, or hub id; api:NAME; open_clip:ARCHITECTURE/WEIGHTS.",
        changes_result=False,
    )
    revision: str | None = setting(None, doc="Revision of a hub id.")
    checkpoint: str = setting("export", doc="Of a run folder: `export`, `all`, `last`, or a step number.")
    data: DataConfig = setting(DataConfig, doc="Raw sources and shards.")
    source: str = setting(doc="Which source of data.sources is asked.")
    protocol: ProtocolConfig = setting(ProtocolConfig, doc="The protocol.")
    api: ApiConfig = setting(ApiConfig, doc="How a model behind an API is called.")
    probe: ProbeConfig = setting(ProbeConfig, doc="Linear heads, for eval.probing.")
    limit: int | None = setting(None, doc="Ask only this many items, chosen by a seeded hash of their ids.", at_least=1)
    dtype: str = setting("bf16", doc="Precision of the model.", choices=("bf16", "fp16", "fp32"))
    attention: str = setting(
        "auto",
        doc="As model.attention.",
        choices=("auto", "sdpa", "flash_attention_2", "flex_attention", "eager"),
        changes_result=False,
    )
    batch_size: int = setting(16, doc="Questions per forward.", at_least=1, changes_result=False)
    output: str | None = setting(
        None,
        doc="Folder of the results; default: eval/NAME in the run folder, else runs/eval/NAME.",
        changes_result=False,
    )
    frequency_sources: tuple[str, ...] = setting(
        tuple,
        doc="Stages whose counts give each class's frequency: sources with class histograms, or those of "
        "frequency_file.",
        changes_result=False,
    )
    frequency_file: str | None = setting(
        None, doc="Counts of class names by stage, as data_prep.frequency --output writes them.", changes_result=False
    )
    probe_source: str | None = setting(
        None, doc="Source of data.sources on which linear heads are trained (probing).", changes_result=False
    )
    paper_row: str | None = setting(
        None, doc="Row of eval/reporting/paper_numbers.json set beside ours.", changes_result=False
    )

    def __post_init__(self) -> None:
        """Raise `ConfigError` for an unknown source or an impossible checkpoint."""
        super().__post_init__()
        _check_name(self.name, "name")
        stages = () if self.frequency_file else self.frequency_sources
        probed = (self.probe_source,) if self.probe_source else ()
        _check_sources_exist((self.source, *stages, *probed), self.data.sources)
        if self.checkpoint not in ("export", "all", "last") and not self.checkpoint.isdigit():
            raise ConfigError(f"checkpoint is {self.checkpoint!r}; give export, all, last or a step number")


def is_api(model: str) -> bool:
    """Whether an evaluation's `model` is one behind an API."""
    return model.startswith("api:")


def result_fields(config: Section, prefix: str = "") -> dict[str, Any]:
    """The result-changing settings as `{dotted name: value}`: what must agree for a run to be resumed."""
    fields: dict[str, Any] = {}
    for spec in dataclasses.fields(config):
        value, name = getattr(config, spec.name), f"{prefix}{spec.name}"
        if not spec.metadata.get("changes_result", True):
            continue
        if isinstance(value, Section):
            fields |= result_fields(value, f"{name}.")
        elif isinstance(value, dict) and any(isinstance(item, Section) for item in value.values()):
            for key, item in value.items():
                fields |= result_fields(item, f"{name}.{key}.")
        else:
            fields[name] = value
    return fields
