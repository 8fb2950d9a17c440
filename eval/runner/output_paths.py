"""Where an evaluation's answers and reports go.

    a run, one of its checkpoints or exports    RUN/eval/NAME/LABEL/      LABEL: export, step-00000500
    any other model                             runs/eval/NAME/MODEL/     MODEL: see `outside_name`
    with `output: FOLDER`                       FOLDER/LABEL/, or FOLDER/ itself for a model that belongs to no run

The folder above LABEL also gets summary.json and summary.md when several checkpoints were evaluated.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from configs.evaluation import EvalConfig
from configs.run_dir import EvalDir, RunDir

NO_RUN = "model"  # the label train.export gives to a model that belongs to no run


@dataclass(frozen=True, slots=True)
class Place:
    """The folder of one evaluation, with a folder in it for each label."""

    root: Path
    in_run: bool

    def folder(self, label: str, model: Path) -> EvalDir:
        """Where the answers of the model called `label`, in the folder `model`, go."""
        if label != NO_RUN:
            return EvalDir(self.root / label)
        return EvalDir(self.root / model.name if self.in_run else self.root)

    def existing(self) -> list[EvalDir]:
        """The folders in which something was asked already, by name."""
        folders = [EvalDir(self.root), *(EvalDir(path) for path in sorted(self.root.glob("*/")))]
        return [folder for folder in folders if folder.config.is_file()]

    def summary(self, suffix: str) -> Path:
        """`summary.json` or `summary.md`: all labels in one table."""
        return self.root / f"summary.{suffix}"


def place_of(config: EvalConfig) -> Place:
    """The place of `config`'s evaluation."""
    run = run_of(config.model)
    if config.output is not None:
        return Place(Path(config.output), run is not None)
    if run is not None:
        return Place(run.evaluation(config.name), True)
    return Place(RunDir(Path("runs")).evaluation(config.name) / outside_name(config.model, config.revision), False)


def outside_name(model: str, revision: str | None = None) -> str:
    """The folder name of a model that belongs to no run, its own for each: two models may share their last name.

    >>> outside_name("llava-hf/llava-1.5-7b-hf")
    'llava-hf--llava-1.5-7b-hf'

    A folder gets a digest of where it lies behind its name: models/a/export and models/b/export are two models.
    """
    path = Path(model)
    if path.is_dir():
        return f"{path.resolve().name}-{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]}"
    return "--".join((*path.parts, *([revision] if revision else ())))


def run_of(model: str) -> RunDir | None:
    """The run that `model` is, or lies in as an export or a checkpoint; None for any other model."""
    path = Path(model)
    candidates = (path, path.parent, path.parent.parent) if path.is_dir() else ()
    return next((RunDir(folder) for folder in candidates if RunDir(folder).config.is_file()), None)
