"""The share of each source in the loss, by what weighs a sample."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from configs.batch_plan import BatchPlan, plan_batches
from configs.command_line import emit_json, exit_on_user_error
from configs.errors import DataError, UserError
from configs.load import load_config
from configs.run import RunConfig
from train.benchmarks.order_plan import IMAGE_TOKENS, IMAGENET, MIX, modelled_lengths
from train.data.llava_groups import LlavaGroups, Mask, Numbers
from train.data.order import EpochOrder, Mixture
from train.data.packing import consecutive_micro_batches, rank_micro_batches
from train.data.sources import SourceSet
from train.plan import plan_counts

PROMPT = 57  # tokens of an ImageNet conversation besides image and name
ANSWERS = 0.3  # of a modelled conversation's text: a guess over LLaVA-665K's short and long answers
TOKENS_A_WORD = 1.4
Shares = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Samples:
    """Of every position: number of its source, target tokens, words, whether it has an image."""

    names: tuple[str, ...]
    sources: Numbers
    targets: Numbers
    words: Numbers
    with_image: Mask


def modelled(fraction: float = 1.0) -> Samples:
    """ImageNet and LLaVA-665K in a row; `fraction` keeps every n-th sample."""
    lengths = modelled_lengths()
    text = lengths.lengths.astype(np.int64) - IMAGE_TOKENS * lengths.with_image
    first = np.arange(IMAGENET + MIX) < IMAGENET
    targets = np.where(first, text - PROMPT + 1, np.maximum(2, (text * ANSWERS).astype(np.int64)))
    words = np.maximum(1, (text / TOKENS_A_WORD).astype(np.int64))
    every = slice(None, None, round(1 / fraction))
    sources = np.where(first, 0, 1)
    columns = (sources[every], targets[every], words[every], lengths.with_image[every])
    return Samples(("imagenet", "llava665k"), *columns)


def counted(config: RunConfig) -> Samples:
    """The training sources of `config`. Raises `DataError` if their shards are not built."""
    sources = SourceSet.of(config.data, config.train.sources)
    counts = plan_counts(config, sources)
    numbers = np.repeat(np.arange(len(sources.sizes)), sources.sizes)
    columns = (numbers, counts["supervised"].astype(np.int64), counts["words"].astype(np.int64))
    return Samples(sources.names, *columns, sources.with_image())


def loss_shares(samples: Samples, plan: BatchPlan, seed: int = 0) -> Shares:
    """Share of each source by `reduction, batching`, over the whole steps of an epoch.

    Raises `DataError` if there is no whole step.
    """
    sizes = tuple((int(count),) for count in np.bincount(samples.sources, minlength=len(samples.names)))
    shuffled = Mixture(sizes, (1.0,) * len(sizes), len(samples.sources))
    groups = LlavaGroups(samples.words, samples.with_image, plan.micro_batch, plan.world * plan.accumulation)
    llava = Mixture(sizes, shuffled.weights, shuffled.block, groups=groups)
    steps = len(samples.sources) // plan.global_batch
    if not steps:
        raise DataError(f"{len(samples.sources)} samples do not fill one batch of {plan.global_batch}; lower --batch")
    found: Shares = {}
    for batching, mixture, cut in (
        ("padded", shuffled, rank_micro_batches),
        ("llava_groups", llava, consecutive_micro_batches),
    ):
        order = EpochOrder.of(mixture, seed, 0).positions[: steps * plan.global_batch].reshape(steps, -1)
        for reduction, weigh in WEIGHTS.items():
            weights = weigh(samples.targets[order], _chunks(cut, plan))
            of_source = [float((weights * (samples.sources[order] == n)).sum() / steps) for n in range(len(sizes))]
            found[f"{reduction}, {batching}"] = dict(zip(samples.names, of_source, strict=True))
    return found


def _chunks(cut: Callable[[range, int, BatchPlan], list[list[int]]], plan: BatchPlan) -> Numbers:
    """Slots (micro-batches, samples) of a global batch."""
    return np.array([chunk for rank in range(plan.world) for chunk in cut(range(plan.global_batch), rank, plan)])


def _by_token(targets: Any, _: Numbers) -> Any:
    return targets / targets.sum(axis=1, keepdims=True)


def _by_sample(targets: Any, _: Numbers) -> Any:
    taught = targets > 0
    return taught / taught.sum(axis=1, keepdims=True)


def _by_micro_batch(targets: Any, chunks: Numbers) -> Any:
    weights = np.zeros(targets.shape)
    for slots in chunks:
        weights[:, slots] = targets[:, slots] / np.maximum(1, targets[:, slots].sum(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


WEIGHTS = {"token": _by_token, "sample": _by_sample, "micro_batch": _by_micro_batch}
"""Weights (steps, global batch) of samples in the loss, from their target tokens, as `train.loss` sets them."""


def measure_and_print(arguments: argparse.Namespace) -> None:
    """Print the shares, or write them as JSON."""
    try:
        plan = plan_batches(arguments.batch, arguments.world, arguments.micro_batch, arguments.micro_batch)
        samples = counted(load_config(RunConfig, arguments.config)[0]) if arguments.config else modelled()
        shares = loss_shares(samples, plan)
    except UserError as error:
        exit_on_user_error(error)
    cut = {"batch": plan.global_batch, "world": plan.world, "micro_batch": plan.micro_batch}
    if not emit_json(arguments.json, {**cut, "modelled": arguments.config is None, "shares": shares}):
        print(f"share of each source in the loss, {plan.global_batch} = {plan.world} ranks x ... x {plan.micro_batch}")
        for name, of_source in shares.items():
            print(f"{name:<28}" + "  ".join(f"{source} {share:6.1%}" for source, share in of_source.items()))
