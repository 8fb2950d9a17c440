"""How many steps a run has and how each global batch is split: pure arithmetic on the numbers of a config.

plan = plan_batches(global_batch=64, world=4, micro_batch="auto", cap=16)     # 16 samples x 1 step of accumulation
length = StepCounts.of(samples=1_281_167, train=config.train)                     # 20,018 steps, 15 samples left over
"""

from dataclasses import dataclass

from configs.errors import ConfigError
from configs.training import TrainConfig


@dataclass(frozen=True)
class BatchPlan:
    """How a global batch is split: `world` ranks x `accumulation` micro-batches x `micro_batch` samples."""

    global_batch: int
    world: int
    micro_batch: int
    accumulation: int


def plan_batches(global_batch: int, world: int, micro_batch: int | str, cap: int) -> BatchPlan:
    """Split `global_batch` samples over `world` ranks; `auto` takes the largest divisor up to `cap`.

    Raises `ConfigError` if the batch cannot be split evenly.
    """
    if global_batch % world:
        lower, upper = global_batch // world * world, -(-global_batch // world) * world
        near = f"{lower} or {upper}" if lower else str(upper)
        raise ConfigError(f"train.global_batch {global_batch} is not divisible by {world} ranks; use {near}")
    share = global_batch // world
    size = divisors(share, cap)[-1] if micro_batch == "auto" else int(micro_batch)
    if size < 1 or share % size:
        possible = map(str, divisors(share, share))
        raise ConfigError(
            f"train.micro_batch {size} does not divide a rank's share of {share} samples "
            f"(global_batch {global_batch} / {world} ranks); use one of {', '.join(possible)}, or auto"
        )
    return BatchPlan(global_batch, world, size, share // size)


def divisors(share: int, largest: int) -> list[int]:
    """The sizes up to `largest` that divide `share`, in ascending order."""
    return [size for size in range(1, min(largest, share) + 1) if share % size == 0]


def split_batch(train: TrainConfig, world: int) -> BatchPlan:
    """How the global batch of a run is split over `world` ranks. Raises `ConfigError` as `plan_batches`.

    Packing makes its own micro-batches, a different number in each step; DeepSpeed gets the largest possible average,
    one per sample, and only uses it as a constant in the scale of the loss.
    """
    micro_batch = 1 if train.batching == "packed" else train.micro_batch
    return plan_batches(train.global_batch, world, micro_batch, train.micro_batch_cap)


@dataclass(frozen=True)
class StepCounts:
    """Steps of a run. The `leftover` samples of each epoch, fewer than a batch, are dropped or filled up to one."""

    samples: int
    steps_per_epoch: int
    leftover: int
    total_steps: int

    @classmethod
    def of(cls, samples: int, train: TrainConfig) -> "StepCounts":
        """Count the steps for `samples` per epoch. Raises `ConfigError` if an epoch has no step."""
        leftover = samples % train.global_batch
        steps = samples // train.global_batch + (1 if leftover and train.last_batch != "drop" else 0)
        if steps == 0:
            raise ConfigError(
                f"{samples} training samples do not fill one batch of train.global_batch {train.global_batch}; "
                "lower it, or set train.last_batch: pad"
            )
        total = steps * train.epochs
        return cls(samples, steps, leftover, min(total, train.max_steps or total))
