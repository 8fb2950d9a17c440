"""Time, memory and padding of the order of samples, on modelled lengths."""

import argparse
import resource
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from configs.batch_plan import plan_batches
from configs.command_line import emit_json
from configs.training import TrainConfig
from train.data.llava_groups import LlavaGroups
from train.data.order import EpochOrder, Mixture
from train.data.packing import BatchPartitioner, Lengths, StepOrder

IMAGENET, MIX = 1_281_167, 665_298
IMAGE_TOKENS, LONGEST = 576, 2048
PARTS = (  # of the 665K mixture: thousands of samples, median and log-spread of the text's tokens, with an image?
    (158, 300, 0.60, True),  # LLaVA-Instruct
    (40, 1000, 0.80, False),  # ShareGPT
    (83, 150, 0.45, True),  # VQAv2, several questions an image
    (72, 220, 0.55, True),  # GQA
    (9, 90, 0.30, True),  # OKVQA
    (80, 200, 0.35, True),  # OCR-VQA
    (66, 110, 0.35, True),  # A-OKVQA
    (22, 75, 0.20, True),  # TextCaps
    (48, 380, 0.50, True),  # RefCOCO
    (86, 400, 0.45, True),  # Visual Genome
)
BLOCK = TrainConfig().shuffle_block
WORLD, BUDGET = 8, 8192


@dataclass(frozen=True)
class ModelledLengths:
    """Tokens of each sample and whether it has an image."""

    lengths: Lengths
    with_image: "np.ndarray[Any, np.dtype[np.bool_]]"


def modelled_lengths(seed: int = 0) -> ModelledLengths:
    """The lengths of both sources, one after the other."""
    rng = np.random.default_rng(seed)
    names = IMAGE_TOKENS + 57 + rng.integers(1, 7, IMAGENET)
    part = rng.choice(len(PARTS), MIX, p=np.array([p[0] for p in PARTS]) / sum(p[0] for p in PARTS))
    medians, spreads = (np.array([p[column] for p in PARTS])[part] for column in (1, 2))
    image = np.array([p[3] for p in PARTS])[part]
    texts = np.exp(np.log(medians) + spreads * rng.standard_normal(MIX)).astype(np.int64) + 35
    lengths = np.minimum(LONGEST, np.concatenate([names, texts + IMAGE_TOKENS * image]))
    return ModelledLengths(lengths.astype(np.uint32), np.concatenate([np.ones(IMAGENET, dtype=np.bool_), image]))


def mixture() -> Mixture:
    """Shards of 1,000 samples."""
    shards = tuple((1000,) * (size // 1000) + (size % 1000,) for size in (IMAGENET, MIX))
    return Mixture(shards=shards, weights=(1.0, 1.0), block=BLOCK)


def packed_order(lengths: Lengths, world: int, global_batch: int) -> StepOrder:
    """The order of a training with `train.batching: packed`."""
    partitioner = BatchPartitioner(plan_batches(global_batch, world, 1, 1), "packed", BUDGET, lengths)
    return StepOrder(mixture(), 0, (IMAGENET + MIX) // global_batch, partitioner)


def whole_plan(lengths: Lengths) -> dict[str, float]:
    """Order and packing of a whole epoch for every rank; CPU seconds do not depend on other processes."""
    began, cpu = time.perf_counter(), time.process_time()
    order = packed_order(lengths, WORLD, 128)
    epoch = EpochOrder.of(order.mixture, 0, 0)
    ordered = time.perf_counter()
    dealt = sum(len(order.partitioner.all_ranks(epoch.step(step, 128))[0]) for step in range(order.steps_per_epoch))
    done = time.perf_counter()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    return {"order_s": ordered - began, "packing_s": done - ordered, "total_s": done - began,
            "total_cpu_s": time.process_time() - cpu, "peak_memory_gb": memory,
            "micro_batches_per_step": dealt / order.steps_per_epoch}  # fmt: skip


def resume_in_the_middle(lengths: Lengths) -> dict[str, float]:
    """The first step of a process that continues in the middle of epoch 1."""
    began, cpu = time.perf_counter(), time.process_time()
    order = packed_order(lengths, WORLD, 128)
    next(order.positions(order.steps_per_epoch * 3 // 2, rank=5))
    return {"resume_s": time.perf_counter() - began, "resume_cpu_s": time.process_time() - cpu}


def ranks_read_their_own(lengths: Lengths, ranks: int = 512, steps: int = 3) -> dict[str, float]:
    """Each of 512 ranks computes its share alone; together they must be the global batches, with each sample once."""
    order = packed_order(lengths, ranks, 4 * ranks)
    start = order.steps_per_epoch // 2
    shares = [order.positions(start, rank) for rank in range(ranks)]
    epoch, largest = EpochOrder.of(order.mixture, 0, 0), 0
    for step in range(start, start + steps):
        read = [[p for micro_batch in next(share) for p in micro_batch if p >= 0] for share in shares]
        assert sorted(p for mine in read for p in mine) == sorted(epoch.step(step, 4 * ranks)), "not the global batch"
        largest = max(largest, *map(len, read))
    return {"ranks": ranks, "samples_of_a_step": 4 * ranks, "most_read_by_one_rank": largest}


def padding(data: ModelledLengths, batch: int, world: int, steps: int) -> dict[str, float]:
    """Ratio of processed to real tokens for four ways to batch one mixture, `batch` samples per device."""
    lengths, found = data.lengths, {}
    order = EpochOrder.of(mixture(), 0, 0)
    for batching in ("padded", "grouped", "packed"):
        split = plan_batches(world * batch * 4, world, 1 if batching == "packed" else batch, batch)
        partitioner = BatchPartitioner(split, batching, BUDGET, lengths)
        chosen = [order.step(step, split.global_batch) for step in range(steps)]
        real = sum(int(lengths[step].sum()) for step in chosen)
        found[batching] = sum(map(partitioner.tokens_run, chosen)) / real
    groups = LlavaGroups(lengths.astype(np.int64), data.with_image, batch, 4 * world)
    llava = groups.order(lambda _: np.arange(len(lengths)), 0, 0)[: steps * world * 4 * batch].reshape(-1, batch)
    run, real = int((lengths[llava].max(axis=1).astype(np.int64) * batch).sum()), int(lengths[llava].sum())
    found["llava"] = run / real
    return found | {"saving": found["llava"] / found["packed"]}


def measure_and_print(arguments: argparse.Namespace) -> None:
    """Measure and print; the plan is first, so that the peak memory is that of the plan."""
    data = modelled_lengths()
    results = {
        "plan": whole_plan(data.lengths),
        "resume": resume_in_the_middle(data.lengths),
        "many_ranks": ranks_read_their_own(data.lengths),
        "padding_batch_8": padding(data, 8, 4, arguments.steps),
        "padding_batch_16": padding(data, 16, 4, arguments.steps),
    }
    if emit_json(arguments.json, results):
        return
    print(f"{IMAGENET + MIX:,} samples; goals: plan < 15 s and < 1.5 GB, resume < 2 s, packed <= 1.02, llava >= 1.4")
    for name, values in results.items():
        print(f"{name:<18}" + ", ".join(f"{key} {value:.4g}" for key, value in values.items()))
