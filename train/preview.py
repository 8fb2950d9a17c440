"""`--dry-run`: what a run would be, without a GPU and without loading a weight."""

from typing import Any

import torch
from transformers import AutoModelForImageTextToText

from configs.schema import RunConfig
from train.adapters import PartCount, choose_trainable, count_parts, freeze_table
from train.batches import SourceSet
from train.chat import coloured, expand_image
from train.epochs import EpochOrder
from train.families import Family
from train.plan import RunPlan
from train.schedule import warmup_steps
from train.zero import memory_estimate


def preview(plan: RunPlan, samples: int = 3) -> str:
    """The plan as text: data, steps, batches, trainable parameters, memory, the first samples in colour."""
    counts = meta_counts(plan.model_config, plan.family, plan.config)
    return "\n\n".join(
        (
            _data(plan.sources, plan.heldout),
            _steps(plan),
            freeze_table(counts),
            _memory(plan, counts),
            first_samples(plan, samples),
        )
    )


def meta_counts(model_config: Any, family: Family, config: RunConfig) -> list[PartCount]:
    """The freeze table from a model without storage (PyTorch's meta device): exact, and free at any size."""
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(model_config)
        choose_trainable(model, family, config.model, config.optim)
    return count_parts(model, family, config.optim)


def _data(sources: SourceSet, heldout: SourceSet) -> str:
    lines = [f"{'source':<28}{'samples':>12}{'classes':>10}{'dropped':>10}"]
    for group, role in ((sources, ""), (heldout, " (held out)")):
        for name, shards in zip(group.names, group.sets, strict=True):
            manifest = shards.manifest
            lines.append(
                f"{name + role:<28}{len(shards):>12,}{len(manifest.class_names):>10,}{len(manifest.drops):>10,}"
            )
    return "\n".join(lines)


def _steps(plan: RunPlan) -> str:
    train, batches, length = plan.config.train, plan.batches, plan.length
    tail = f"{length.tail} samples {'dropped' if train.tail == 'drop' else 'in a padded batch'} each epoch"
    return "\n".join(
        (
            f"steps per epoch   {length.steps_per_epoch:,} ({tail})",
            f"epochs            {train.epochs}, {length.total_steps:,} steps in all",
            f"warm-up           {warmup_steps(length.total_steps, plan.config.optim.warmup_ratio):,} steps",
            f"effective batch   {batches.global_batch} = {batches.world} ranks x {batches.accumulation} accumulation "
            f"x {batches.micro_batch} micro-batch",
            f"image             {plan.encoder.image_tokens} tokens, {plan.encoder.pixels.size} px, "
            f"mode {plan.encoder.pixels.mode}",
        )
    )


def _memory(plan: RunPlan, counts: list[PartCount]) -> str:
    total, trainable = sum(row.total for row in counts), sum(row.trainable for row in counts)
    gib = memory_estimate(total, trainable, plan.config, plan.batches)
    parts = ", ".join(f"{name} {value:.3g}" for name, value in gib.items() if name != "total")
    return f"memory per rank   {gib['total']:.3g} GiB ({parts}), activations come on top"


def first_samples(plan: RunPlan, samples: int) -> str:
    """The first samples of epoch 0 as the model sees them, supervised tokens in green."""
    sources, encoder = plan.sources, plan.encoder
    order = EpochOrder.of(plan.order.mixture, plan.config.seed, 0)
    blocks = []
    for position in order.positions[:samples]:
        sample = sources.sample(int(position))
        rendered = encoder.renderer.render(sample.turns, encoder.chat.max_length)
        expanded = expand_image(rendered, encoder.image_tokens, encoder.image_token_id, encoder.chat.max_length)
        supervised = sum(expanded.supervised)
        text = coloured(rendered, encoder.renderer.tokenizer)
        blocks.append(f"{sample.id}: {len(expanded.input_ids)} tokens, {supervised} supervised\n{text}")
    return "\n\n".join(blocks)
