"""Everything that is known before anything is allocated: data, chat, batches, length, DeepSpeed's settings.

Training and `--dry-run` make the same plan: every mistake a config can hold is found here, on a login node, without a
GPU: missing shards, an unsupported model, a batch that does not divide.
"""

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from configs.batch_plan import BatchPlan, StepCounts, split_batch
from configs.errors import ConfigError, DataError
from configs.model import TRAINING_TEMPLATES
from configs.run import RunConfig
from configs.run_dir import RunDir
from data_prep.spelling import spelling_notes
from data_prep.train_test_check import mismatch_warnings
from train.chat.tokenizer import load_tokenizer
from train.data.class_weights import ClassWeights, class_weights
from train.data.collate import ExampleBuilder, ExampleSet
from train.data.lengths import Counts, LengthSettings, known_counts, token_counts
from train.data.llava_groups import LlavaGroups
from train.data.packing import LENGTH_INDEPENDENT_SPLITS, BatchPartitioner, StepOrder
from train.data.probe_classes import ProbeClasses
from train.data.questions import choice_notes, training_question
from train.data.sources import SourceSet
from train.data.training_batches import TrainingBatches
from train.data.untrainable import check_trainable
from train.kernel_choice import KernelChoice, choose_kernels, fit_to_decoder
from train.loggers.tensorboard_logger import require_tensorboard
from train.models.checked_loading import check_image_token, check_vocabulary
from train.models.fingerprint import model_identity
from train.models.llama_layers import sliding_window
from train.models.loading import attention_of, resolve_folder
from train.models.meta_model import meta_model
from train.models.model_folder import check_generation_settings, lacks_weights
from train.models.param_groups import trains_language
from train.models.registry import trainable_family_of
from train.models.trainable import TrainableFamily
from train.optimization.schedule import check_warmup
from train.optimization.zero import deepspeed_config


@dataclass(frozen=True)
class MemoryChoice:
    """What was chosen by memory (`train.memory_plan`) for a world of that size; `note` says why, for people."""

    micro_batch: int
    activation_checkpointing: bool | str
    world_size: int
    note: str = ""

    @property
    def record(self) -> dict[str, Any]:
        """What a checkpoint keeps of it."""
        return {name: value for name, value in vars(self).items() if name != "note"}


@dataclass(frozen=True)
class RunPlan:
    """A run, ready to be built."""

    config: RunConfig
    run: RunDir
    folder: Path
    family: TrainableFamily
    identity: str
    example_builder: ExampleBuilder
    sources: SourceSet
    heldout: SourceSet
    order: StepOrder
    length: StepCounts
    deepspeed: dict[str, Any]
    attention: str
    kernels: KernelChoice
    memory: MemoryChoice | None = None
    class_weights: ClassWeights | None = None
    probe_classes: ProbeClasses | None = None
    """What a linear probe learns, where `loss.probe` is above 0."""

    @property
    def activation_checkpointing(self) -> bool | str:
        """What is recomputed: nothing (False), `selective`, or whole layers (True)."""
        if self.memory is not None:
            return self.memory.activation_checkpointing
        given = self.config.model.activation_checkpointing
        return False if given == "auto" else given

    @property
    def packed(self) -> bool:
        """Whether conversations are packed into one row."""
        return self.config.train.batching == "packed"

    @property
    def batches(self) -> BatchPlan:
        """How a global batch is split."""
        return self.order.partitioner.plan

    def data_notes(self) -> list[str]:
        """Class names that cannot be written; mismatches of training and held-out sources; losses to choose by."""
        chooses = self.config.checkpoint.keep == "best" or self.config.checkpoint.patience > 0
        by_loss = choice_notes(self.sources, self.heldout) if chooses else []
        contents = self.sources.contents()
        spelled = spelling_notes(self.folder, sum((Counter(content.counts) for content in contents), Counter()))
        return [*spelled, *mismatch_warnings(contents, self.heldout.contents()), *by_loss]

    def training_batches(self) -> TrainingBatches:
        """The training data in its order."""
        weights = None if self.class_weights is None else self.class_weights.of_position
        examples = ExampleSet(
            self.sources,
            self.example_builder,
            self.config.train.unreadable,
            weights=weights,
            probe_classes=self.probe_classes,
        )
        return TrainingBatches(examples, self.order)

    def heldout_examples(self) -> ExampleSet:
        """The held-out samples, with the training prompt."""
        question = training_question(self.sources) if self.heldout.names else None
        return ExampleSet(self.heldout, self.example_builder, self.config.train.unreadable, question)


def make_plan(config: RunConfig, world_size: int, device: str, *, count: bool = False) -> RunPlan:
    """Check a config against the world it will run in; `device` is `cpu` or `cuda`.

    With `count`, as for a dry run, the tokens of all samples are counted now, so that all samples that cannot be
    trained on are found; and the model may be a folder without weights, or a hub id whose weights are not downloaded.

    Raises `ConfigError` or `DataError` that says what to change.
    """
    if config.logging.tensorboard:
        require_tensorboard()
    settings = deepspeed_config(config, split_batch(config.train, world_size))
    kernels = choose_kernels(
        config.model.kernels, device, config.deepspeed.zero_stage, deterministic=config.train.deterministic
    )
    folder = resolve_folder(config.model.base, config.model.revision, weights=not count)
    family = _family(config, folder)
    attention = attention_of(family, config.model.attention, device, config.model.dtype)
    sources = SourceSet.of(config.data, config.train.sources)
    if not _trains_language(config, family) and not sources.with_image().any():
        raise DataError(
            f"model.mode is {config.model.mode} and no sample of {', '.join(sources.names)} has an image, so nothing "
            "would be trained; check the key or tag that holds the images in the source's files, and build it again"
        )
    _check_window(config, family)
    builder = _example_builder(config, folder, family)
    heldout = SourceSet.of(config.data, config.train.heldout)
    order = plan_order(config, sources, world_size)
    length = StepCounts.of(order.mixture.size, config.train)
    check_warmup(length.total_steps, config.optim)
    skipped_samples(config, sources, builder, count=count or config.train.batching != "padded")
    skipped_samples(config, heldout, builder, count=count)
    return RunPlan(
        config=config,
        run=RunDir(Path(config.runs_dir) / config.name),
        folder=folder,
        family=family,
        identity="" if count and lacks_weights(folder) else model_identity(folder),
        example_builder=builder,
        sources=sources,
        heldout=heldout,
        order=order,
        length=length,
        deepspeed=settings,
        attention=attention,
        kernels=fit_to_decoder(kernels, config.model, family, attention, deterministic=config.train.deterministic),
        class_weights=class_weights(config.loss, order.mixture, sources.labels(), sources.class_names()),
        probe_classes=ProbeClasses.of(sources) if config.loss.probe else None,
    )


def _trains_language(config: RunConfig, family: TrainableFamily) -> bool:
    """Whether texts give a gradient.

    Raises `ConfigError` where LoRA's scope or `model.selective` does not fit the model, before weights are loaded.
    """
    if config.model.mode == "projector":
        return False
    if config.model.mode == "full":
        return config.optim.lr_language > 0
    return trains_language(meta_model(family, config), family)


def _check_window(config: RunConfig, family: TrainableFamily) -> None:
    """Raise `ConfigError` for packed rows where a sliding window is shorter than a conversation may be."""
    window, longest = sliding_window(family.text_config), config.chat.max_length
    if config.train.batching == "packed" and window is not None and longest > window:
        raise ConfigError(
            f"train.batching is packed, and the language model sees {window} tokens back (sliding_window), fewer than "
            f"chat.max_length {longest}: the mask of packed rows has no window; set chat.max_length={window}, or "
            "train.batching to padded or grouped"
        )


def plan_order(config: RunConfig, sources: SourceSet, world_size: int) -> StepOrder:
    """What each of `world_size` ranks reads in each step.

    Raises `ConfigError` if an epoch has no step, or for a batching that the loss or the longest sample forbids.
    """
    train = config.train
    shared = train.share_of if train.shares and train.share_of != "samples" else None
    mixture = sources.mixture(train, plan_counts(config, sources)[shared] if shared else None)
    length = StepCounts.of(mixture.size, train)
    split = split_batch(config.train, world_size)
    partitioner = BatchPartitioner(split, train.batching)
    if train.batching == "llava_groups":
        words = plan_counts(config, sources)["words"].astype(np.int64)
        groups = LlavaGroups(words, sources.with_image(), split.micro_batch, split.world * split.accumulation)
        mixture = replace(mixture, groups=groups)
    if train.batching in LENGTH_INDEPENDENT_SPLITS:
        return StepOrder(mixture, config.seed, length.steps_per_epoch, partitioner, train.last_batch)
    if config.loss.reduction == "micro_batch":
        raise ConfigError(
            f"loss.reduction micro_batch averages within each micro-batch, and batching {train.batching} composes "
            "micro-batches differently for each world size, so the loss would depend on the number of GPUs; use "
            "reduction token or sample, or batching padded or llava_groups"
        )
    if train.batching == "packed" and train.token_budget < config.chat.max_length:
        raise ConfigError(
            f"train.token_budget {train.token_budget} has no room for a sample of chat.max_length "
            f"{config.chat.max_length} tokens; raise it to that at least"
        )
    lengths = plan_counts(config, sources)["tokens"]
    partitioner = BatchPartitioner(split, train.batching, train.token_budget, lengths)
    return StepOrder(mixture, config.seed, length.steps_per_epoch, partitioner, train.last_batch)


def plan_counts(config: RunConfig, sources: SourceSet) -> Counts:
    """Tokens of every sample for the model of `config`; counted now if they never were (`train.data.lengths`)."""
    folder = resolve_folder(config.model.base, config.model.revision, weights=False)
    family = _family(config, folder)
    settings = _length_settings(config, folder, family)
    return token_counts(sources, settings, lambda: _example_builder(config, folder, family))


def skipped_samples(config: RunConfig, sources: SourceSet, builder: ExampleBuilder, *, count: bool) -> list[str]:
    """One sentence per kind of sample that cannot be trained on, if `train.unreadable` is `skip`; else `DataError`.

    Without `count` those are found that were counted before or that the build noted.
    """
    family = builder.family
    if count:
        counts: Counts | None = plan_counts(config, sources)
    else:
        folder = resolve_folder(config.model.base, config.model.revision, weights=False)
        counts = known_counts(sources, _length_settings(config, folder, family))
    kept = sources.kept(config.train) if sources.names == tuple(config.train.sources) else None
    return check_trainable(sources, builder, kept, counts, config.train.unreadable)


def _length_settings(config: RunConfig, folder: Path, family: TrainableFamily) -> LengthSettings:
    return LengthSettings.of(folder, config.chat, family.image_token_key, probe=config.loss.probe > 0)


def _family(config: RunConfig, folder: Path) -> TrainableFamily:
    return trainable_family_of(folder).with_pixels(config.chat.min_pixels, config.chat.max_pixels)


def _example_builder(config: RunConfig, folder: Path, family: TrainableFamily) -> ExampleBuilder:
    tokenizer = load_tokenizer(folder)
    check_vocabulary(folder, tokenizer, int(family.text_config.vocab_size))
    check_image_token(
        folder, tokenizer, (family.image_token, family.image_token_id), int(family.text_config.vocab_size)
    )
    check_generation_settings(folder)
    if config.chat.template not in family.chat_templates:
        raise ConfigError(
            f"chat.template is {config.chat.template}, which {family.name} does not understand; set it to one of "
            f"{', '.join(name for name in TRAINING_TEMPLATES if name in family.chat_templates)}"
        )
    renderer = family.renderer(tokenizer, config.chat.template, config.chat.system_prompt)
    renderer.check_trainable()
    longest, tokens = config.chat.max_length, family.fixed_image_tokens
    if tokens is not None and tokens >= longest:
        raise ConfigError(f"chat.max_length {longest} has no room for an image's {tokens} tokens")
    if family.max_positions is not None and longest > family.max_positions:
        raise ConfigError(
            f"chat.max_length {longest} is more than the model's {family.max_positions} positions; set it to at most "
            f"that many (--set chat.max_length={family.max_positions}), or name the base with its settings (--base)"
        )
    images = family.image_processor(config.chat.image_mode, config.chat.image_size, fast=config.chat.pixels == "fast")
    if config.loss.probe and family.reads_question:
        raise ConfigError(
            f"loss.probe is above 0, and the image features of {family.name} depend on the question, which may name "
            "the class; set loss.probe to 0, or train a family whose features do not, such as LLaVA-1.5"
        )
    return ExampleBuilder(renderer, family, images, config.chat, probe=config.loss.probe > 0)
