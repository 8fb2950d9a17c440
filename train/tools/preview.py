"""`--dry-run`: what a run would be, without a GPU and without loading a weight."""

from dataclasses import replace
from typing import Any

import numpy as np

from configs.batch_plan import plan_batches
from configs.command_line import output_has_colours
from configs.errors import DataError
from configs.gradient_buckets import described
from configs.words import counted
from data_prep.byte_size import gib_size
from data_prep.source_match import absent_paths
from train.chat.conversation import highlight_targets
from train.data.lengths import Counts
from train.data.order import PADDING, EpochOrder
from train.distributed.determinism import COST
from train.kernel_choice import why_transformers
from train.memory_plan import estimate, memory_decides
from train.models.checked_loading import check_weight_headers
from train.models.lora import peft_layers_note
from train.models.model_folder import lacks_weights
from train.models.param_groups import PartCount, count_parts, freeze_table, trained_modules, trains_language
from train.optimization.schedule import warmup_steps
from train.optimization.zero import memory_estimate
from train.plan import RunPlan, plan_counts, skipped_samples
from train.tools.preview_mixture import portions

LEFTOVER = {
    "drop": "dropped",
    "pad": "in a padded batch",
    "repeat": "in a batch filled up with the first ones",
}
FEW_CLASSES = 0.9  # of all: fewer in a block are reported


def preview(plan: RunPlan, samples: int = 3) -> str:
    """The plan as text: data, steps, batches, trainable parameters, memory, the first samples.

    Tokens are counted now if they never were. Raises `ConfigError` if the base's weights are not those of its config.
    """
    weights = []
    if lacks_weights(plan.folder):
        weights.append(f"weights           none in {plan.folder}, so not checked; a training needs them")
    else:
        check_weight_headers(plan.family.model_class, plan.folder, plan.family.config)
    tokens = plan_counts(plan.config, plan.sources)
    skipped = [
        f"skipped           {line}"
        for part in (plan.sources, plan.heldout)
        for line in skipped_samples(plan.config, part, plan.example_builder, count=True)
    ]
    estimated = estimate(plan)
    counts = count_parts(estimated.model, plan.family, plan.config.optim)
    return "\n\n".join(
        (
            _data(plan, tokens),
            "\n".join([_reading(plan, tokens, trains_language(estimated.model, plan.family)), *skipped, *weights]),
            _steps(plan),
            f"{freeze_table(counts)}\n{trained_modules(estimated.model, plan.family, plan.config.model)}",
            _kernels(plan, estimated.model),
            _memory(plan, counts, estimated.activations(plan.batches.micro_batch, plan.activation_checkpointing)),
            first_samples(plan, samples),
        )
    )


def _data(plan: RunPlan, tokens: Counts) -> str:
    """One line a source; `per epoch` counts entries of an epoch, tokens are those of one pass."""
    head = f"{'source':<28}{'samples':>12}{'classes':>10}{'dropped':>10}"
    lines = [f"{head}{'per epoch':>12}{'tokens':>16}{'supervised':>14}"]
    for group, role in ((plan.sources, ""), (plan.heldout, " (held out)")):
        for number, (name, shards) in enumerate(zip(group.names, group.sets, strict=True)):
            manifest = shards.manifest
            line = f"{name + role:<28}{len(shards):>12,}{len(manifest.class_names):>10,}{len(manifest.drops):>10,}"
            if not role:
                rows = tokens[group.starts[number] : group.starts[number + 1]]
                line += f"{plan.order.mixture.source_sizes()[number]:>12,}"
                line += f"{rows['tokens'].sum():>16,}{rows['supervised'].sum():>14,}"
            lines.append(line)
    names = plan.config.train.sources + plan.config.train.heldout
    return "\n".join([*lines, *absent_paths(plan.config.data, names)])


def _reading(plan: RunPlan, tokens: Counts, language: bool) -> str:
    """How the data is read: shuffling, declared parts, text-only records, padding."""
    notes = [f"train and test    {note}" for note in plan.data_notes()]
    return "\n".join(
        [_shuffling(plan), *portions(plan, tokens), *_text_only(plan, tokens, language), _padding(plan, tokens), *notes]
    )


def _shuffling(plan: RunPlan) -> str:
    mixture = plan.order.mixture
    if mixture.groups is not None:
        return "order             that of LLaVA's sampler: batches with or without images, grouped by number of words"
    by_source = [shards.labels for shards in plan.sources.sets]
    labels = np.concatenate([np.where(some < 0, -1, some + (n << 32)) for n, some in enumerate(by_source)])
    positions = EpochOrder.of(mixture, plan.config.seed, 0).positions
    first = labels[positions[: mixture.block]]
    classes, known = len(np.unique(first[first >= 0])), len(np.unique(labels[labels >= 0]))
    line = f"shuffled          {sum(map(len, mixture.shards)):,} shards, then samples in blocks of {mixture.block:,}"
    line += f" (the first holds {classes:,} of {known:,} classes)" if known else ""
    if mixture.block >= len(positions):
        line += "; that is a whole epoch, in which train.shares has no more classes" if classes < known else ""
    elif classes < FEW_CLASSES * known:
        line += "; parts of an epoch would be about few classes each: raise train.shuffle_block"
    return line + _cache_advice(plan)


def _cache_advice(plan: RunPlan) -> str:
    """A block of samples behind URLs that does not fit the cache is fetched again and again."""
    sets = plan.sources.sets
    remote = sum(shards.remote_bytes for shards in sets) / max(1, len(plan.sources))  # bytes a sample
    block, room = min(plan.order.mixture.block, len(plan.sources)), plan.config.data.cache_gib * 2**30
    if block * remote <= room:
        return ""
    needed, fits = block * remote / 2**30, int(room / remote)
    return (
        f"; a block reads {needed:,.0f} GiB behind URLs through a cache of {plan.config.data.cache_gib:,.0f}: raise"
        f" data.cache_gib, or set train.shuffle_block to {fits:,} or less"
    )


def _text_only(plan: RunPlan, tokens: Counts, language: bool) -> list[str]:
    """What records without an image cost, where they give no gradient (no `language` trains) or are left out."""
    dropped = plan.config.train.text_only == "drop"
    if not dropped and language:
        return []
    text = ~plan.sources.with_image()
    mixture = plan.order.mixture
    weights = np.repeat(mixture.weights, plan.sources.sizes) if dropped else mixture.expected_repeats()
    samples, saved = (weights * text).sum(), (weights * text * tokens["tokens"]).sum()
    share = saved / max(1.0, (weights * tokens["tokens"]).sum())
    counted = f"{samples:,.0f} samples with {saved:,.0f} tokens an epoch ({share:.1%})"
    if dropped:
        return [f"text-only         left out, which saves {counted}"]
    advice = "; train.text_only: drop would save them" if samples else ""
    return [f"text-only         kept, without a gradient in mode {plan.config.model.mode}: {counted}{advice}"]


def _padding(plan: RunPlan, tokens: Counts) -> str:
    """Tokens run for each real one in the first steps, by each way of batching."""
    config, order = plan.config, EpochOrder.of(plan.order.mixture, plan.config.seed, 0)
    steps = [order.step(step, config.train.global_batch) for step in range(min(plan.length.steps_per_epoch, 64))]
    real = sum(int(tokens["tokens"][[p for p in step if p != PADDING]].sum()) for step in steps)
    found = []
    for batching in dict.fromkeys((config.train.batching, "padded", "grouped", "packed")):
        chosen = " (train.batching)" if batching == config.train.batching else ""
        partitioner = replace(plan.order.partitioner, batching=batching, lengths=tokens["tokens"])
        if batching != "packed":
            train = config.train
            split = plan_batches(train.global_batch, plan.batches.world, train.micro_batch, train.micro_batch_cap)
            partitioner = replace(partitioner, plan=split)
        run = sum(partitioner.tokens_run(step) for step in steps)
        found.append(f"{batching} {run / max(1, real):.2f}{chosen}")
    return f"tokens run        {', '.join(found)} for each real one, over the first {len(steps)} steps"


def _steps(plan: RunPlan) -> str:
    train, batches, length = plan.config.train, plan.batches, plan.length
    split = (
        f"{counted(batches.world, 'rank')} x {batches.accumulation} accumulation x {batches.micro_batch} micro-batch"
    )
    if train.batching == "packed":
        split = f"packed for {counted(batches.world, 'rank')}, at most {train.token_budget:,} tokens a forward"
    leftover = f"{counted(length.leftover, 'sample')} {LEFTOVER[train.last_batch]} each epoch"
    return "\n".join(
        (
            f"steps per epoch   {length.steps_per_epoch:,} ({leftover})",
            f"epochs            {train.epochs}, {length.total_steps:,} steps in all",
            f"warm-up           {warmup_steps(length.total_steps, plan.config.optim):,} steps",
            f"effective batch   {batches.global_batch} = {split}",
            f"image             {_image_tokens(plan)}, {plan.example_builder.image_processor.description}",
        )
    )


def _image_tokens(plan: RunPlan) -> str:
    tokens = plan.family.fixed_image_tokens
    return "as many tokens as its size gives" if tokens is None else f"{tokens} tokens"


def _kernels(plan: RunPlan, model: Any) -> str:
    """The kernels of this machine, and who runs the decoder's layers."""
    settings, chosen = plan.config.model, plan.kernels
    why = why_transformers(model, settings, plan.family, plan.attention)
    runs = f"transformers runs the decoder's layers {why}" if why else "the decoder's last layer runs at targets only"
    how = "auto" if settings.attention == "auto" else "set in model.attention"
    return f"kernels           {chosen.name} ({chosen.reason}); {runs}\nattention         {plan.attention} ({how})"


def _memory(plan: RunPlan, counts: list[PartCount], activations: float | None) -> str:
    total, trainable = sum(row.total for row in counts), sum(row.trainable for row in counts)
    gib = memory_estimate(total, trainable, plan.config, plan.batches)
    parts = ", ".join(f"{name} {gib_size(gib[name])}" for name in ("weights", "gradients", "optimizer"))
    if activations is None:
        lines = [f"memory per rank   {gib_size(gib['total'])} ({parts}), activations come on top"]
    else:
        whole = gib["total"] + activations
        lines = [
            f"memory per rank   {gib_size(whole)} ({parts}, activations of the largest micro-batch "
            f"{gib_size(activations)})"
        ]
    if gib["loading"] > gib["total"]:
        lines.append(f"                  {gib_size(gib['loading'])} while loading: every rank reads the whole model")
    lines.append(f"recomputed        {_recomputed(plan)}")
    lines.append(f"gradients         {described(plan.deepspeed, trainable, plan.batches.world)}")
    if plan.config.checkpoint.asynchronous:
        copy = trainable * 12 / 1024**3
        lines.append(
            f"                  {gib_size(copy)} of the leading rank's host memory while a checkpoint is written"
        )
    if note := peft_layers_note(plan.config.model, plan.config.optim, plan.config.deepspeed.zero_stage):
        lines.append(f"LoRA              {note}")
    if plan.config.train.deterministic:
        lines.append(f"deterministic     {COST}")
    return "\n".join(lines)


def _recomputed(plan: RunPlan) -> str:
    """Activation checkpointing, and whether memory has decided about it and the micro-batch."""
    names: dict[bool | str, str] = {
        False: "nothing",
        "selective": "what follows each attention (activation checkpointing selective)",
        True: "all layers (activation checkpointing true)",
    }
    level = names[plan.activation_checkpointing]
    by_batch, by_level = memory_decides(plan.config)
    chosen = " and ".join(["the micro-batch"] * by_batch + ["this"] * by_level)
    if plan.memory and plan.memory.note and chosen:
        return f"{level}; memory decides about {chosen}: {plan.memory.note}"
    if chosen:
        return f"{level}; a GPU's memory decides about {chosen}: give --device-memory GIB"
    return level


def first_samples(plan: RunPlan, samples: int) -> str:
    """The first samples of epoch 0 as the model sees them, supervised tokens highlighted."""
    sources, builder = plan.sources, plan.example_builder
    order = EpochOrder.of(plan.order.mixture, plan.config.seed, 0)
    blocks = []
    for position in order.positions[:samples]:
        read = sources.sample if builder.needs_image_size else sources.record
        sample = read(int(position))
        try:
            rendered = builder.renderer.render(sample.turns, builder.chat.max_length)
            expanded = builder.expand(rendered, builder.image_ids(sample) if rendered.images else ())
            expanded, rendered = builder.with_probe(sample, expanded), builder.with_probe(sample, rendered)
        except DataError as error:
            blocks.append(f"{sample.id}: skipped (train.unreadable), {error}")
            continue
        supervised = sum(expanded.supervised)
        text = highlight_targets(rendered, builder.renderer.tokenizer, colour=output_has_colours())
        blocks.append(f"{sample.id}: {len(expanded.input_ids)} tokens, {supervised} supervised\n{text}")
    return "\n\n".join(blocks)
