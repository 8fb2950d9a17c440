"""The ids of an epoch's samples by step and rank, as the loader reads them."""

import argparse
from collections.abc import Iterable, Iterator

from configs.command_line import emit_json, exit_on_user_error
from configs.errors import ConfigError, UserError
from configs.run import RunConfig
from train.data.loader import read_steps
from train.data.order import PADDING
from train.data.packing import StepOrder
from train.data.sources import PositionSet, SourceSet
from train.plan import plan_order


class IdSet(PositionSet[str]):
    """The id of the sample at each position; only its record is read."""

    def __getitem__(self, position: int) -> str:
        """The id, or an empty one for `PADDING`."""
        return "" if position == PADDING else self.sources.record(position).id


def ids_of_rank(
    order: StepOrder, sources: SourceSet, rank: int, workers: int, first: int, last: int
) -> Iterator[list[str]]:
    """Ids that `rank` reads in each data step from `first` to before `last`, in the order it reads them."""
    steps = read_steps(order, IdSet(sources), list, first, rank, workers)
    for _ in range(first, last):
        yield [sample_id for micro_batch in next(steps) for sample_id in micro_batch if sample_id]


def read_epoch(
    order: StepOrder, sources: SourceSet, workers: int, epoch: int, from_step: int = 0
) -> Iterator[tuple[int, list[list[str]]]]:
    """(step within the epoch, ids of each rank) from `from_step` on; one rank's processes run at a time."""
    first, last = epoch * order.steps_per_epoch + from_step, (epoch + 1) * order.steps_per_epoch
    ranks = [
        list(ids_of_rank(order, sources, rank, workers, first, last)) for rank in range(order.partitioner.plan.world)
    ]
    yield from enumerate(map(list, zip(*ranks, strict=True)), from_step)


def print_order(config: RunConfig, arguments: argparse.Namespace) -> None:
    """Parse, plan the order, read it, print it."""
    try:
        _check(arguments)
        sources = SourceSet.of(config.data, config.train.sources)
        order = plan_order(config, sources, arguments.world)
        if arguments.from_step > order.steps_per_epoch:
            raise ConfigError(
                f"--from-step {arguments.from_step} is past the epoch's {order.steps_per_epoch} steps; give 0 to "
                f"{order.steps_per_epoch}"
            )
        workers = config.train.workers if arguments.workers is None else arguments.workers
        steps: Iterable[tuple[int, list[list[str]]]] = read_epoch(
            order, sources, workers, arguments.epoch, arguments.from_step
        )
        if arguments.json:
            steps = list(steps)
            listed = [{"step": step, "ranks": ranks} for step, ranks in steps]
            if emit_json(arguments.json, {"epoch": arguments.epoch, "steps": listed}):
                return
        for step, ranks in steps:
            print(f"step {step}  " + "  ".join(f"rank {rank}: {' '.join(ids)}" for rank, ids in enumerate(ranks)))
    except UserError as error:
        exit_on_user_error(error)


def _check(arguments: argparse.Namespace) -> None:
    for name, least in (("world", 1), ("workers", 0), ("epoch", 0), ("from_step", 0)):
        value = getattr(arguments, name)
        if value is not None and value < least:
            raise ConfigError(f"--{name.replace('_', '-')} is {value}; it must be at least {least}")
