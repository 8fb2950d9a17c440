"""The loss curves of runs, for the paper's Figure 5: read from metrics.jsonl, thinned so that no spike is lost."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from configs.errors import UserError
from configs.load import load_config
from configs.run import RunConfig
from configs.run_dir import RunDir
from train.loggers.jsonl import read_records

POINTS = 300  # of a drawn curve


@dataclass(frozen=True, slots=True)
class LossCurve:
    """(step, loss) of a run, and what it trained: `projector`, `lora` or `full`."""

    run: str
    mode: str
    points: tuple[tuple[int, float], ...]


def read_loss_curves(folders: Iterable[Path]) -> list[LossCurve]:
    """The curve of every run below `folders` whose metrics and configuration can be read, by name."""
    files = {file for folder in folders for file in folder.rglob("metrics.jsonl")}
    found = []
    for file in sorted(files):
        run = RunDir(file.parent)
        if not run.config.is_file() or not (points := _read(file)):
            continue
        try:
            config, _ = load_config(RunConfig, run.config)
        except UserError:
            continue  # a run of an older version: its evaluations still count
        found.append(LossCurve(run.root.name, config.model.mode, tuple(thinned(points))))
    return found


def _read(file: Path) -> list[tuple[int, float]]:
    lines = [line for line in read_records(file) if isinstance(line.get("loss"), float)]
    return sorted({int(line["step"]): line["loss"] for line in lines}.items())  # a repeated step as it came out at last


def thinned(points: Sequence[tuple[int, float]], most: int = POINTS) -> list[tuple[int, float]]:
    """At most `most` of the points: of each stretch the highest, so that a spike of one step stays.

    >>> thinned([(1, 2.0), (2, 9.0), (3, 1.0), (4, 1.5)], 2)
    [(2, 9.0), (4, 1.5)]
    """
    if len(points) <= most:
        return list(points)
    edges = [number * len(points) // most for number in range(most + 1)]
    return [max(points[a:b], key=lambda point: point[1]) for a, b in pairwise(edges)]
