"""The loss curves of runs, for the paper's Figure 5: read from metrics.jsonl, thinned so that no spike is lost."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from configs.errors import UserError
from configs.load import load_config
from configs.run import RunConfig
from configs.run_dir import RunDir
from data_prep.figures import thinned
from train.loggers.jsonl import read_records

POINTS = 300  # of a plotted curve


@dataclass(frozen=True, slots=True)
class LossCurve:
    """(step, loss) of a run, and what it trained: `projector`, `lora` or `full`."""

    run: str
    mode: str
    points: tuple[tuple[int, float], ...]


def read_loss_curves(folders: Iterable[Path]) -> list[LossCurve]:
    """The curve of every run below `folders` whose metrics and configuration can be read, sorted by path."""
    runs = {run.root: run for folder in folders for run in RunDir.below(folder)}
    found = []
    for _, run in sorted(runs.items()):
        if not run.config.is_file() or not (points := _read(run.metrics)):
            continue
        try:
            config, _ = load_config(RunConfig, run.config)
        except UserError:
            continue  # its evaluations still count
        found.append(LossCurve(run.root.name, config.model.mode, tuple(thinned(points, POINTS))))
    return found


def _read(file: Path) -> list[tuple[int, float]]:
    lines = [line for line in read_records(file) if isinstance(line.get("loss"), float)]
    return sorted({int(line["step"]): line["loss"] for line in lines}.items())  # of a repeated step the last
