"""The output folders of an evaluation.

    a run, one of its checkpoints or exports    RUN/eval/NAME/LABEL/      LABEL: export, step-00000500
    any other model                             runs/eval/NAME/MODEL/     MODEL: see `unattached_name`
    with `output: FOLDER`                       FOLDER/LABEL/, or FOLDER/ itself for a model that belongs to no run

The folder above LABEL also gets summary.json and summary.md when several checkpoints were evaluated.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from configs.eval_dir import EvalDir
from configs.evaluation import EvalConfig
from configs.run_dir import RunDir, run_of

NO_RUN = "model"  # the label train.export gives to a model that belongs to no run


@dataclass(frozen=True, slots=True)
class OutputPaths:
    """The folder of one evaluation; it holds a folder for each label (checkpoint) of the model."""

    root: Path
    in_run: bool

    def folder(self, label: str, model: Path) -> EvalDir:
        """The folder for the answers of the checkpoint `label`, whose model folder is `model`."""
        if label != NO_RUN:
            return EvalDir(self.root / label)
        return EvalDir(self.root / model.name if self.in_run else self.root)

    def existing(self) -> list[EvalDir]:
        """The folders that hold answers, sorted by name."""
        folders = [EvalDir(self.root), *(EvalDir(path) for path in sorted(self.root.glob("*/")))]
        return [folder for folder in folders if folder.config.is_file()]


def output_paths_of(config: EvalConfig) -> OutputPaths:
    """The output folders of `config`'s evaluation."""
    run = run_of(config.model)
    if config.output is not None:
        return OutputPaths(Path(config.output), run is not None)
    if run is not None:
        return OutputPaths(run.evaluation(config.name), True)
    return OutputPaths(
        RunDir(Path("runs")).evaluation(config.name) / unattached_name(config.model, config.revision), False
    )


def present_answers(config: EvalConfig) -> EvalDir | None:
    """The folder of the answers of `config`'s model, from file names alone; None if there are none yet.

    No weights are read and nothing is exported: for a look before an evaluation.
    """
    paths = output_paths_of(config)
    folder = EvalDir(paths.root / _label(config) if paths.in_run else paths.root)
    return folder if folder.config.is_file() else None


def _label(config: EvalConfig) -> str:
    """The name of the answers' folder of a run's model."""
    run = RunDir(Path(config.model))
    if not run.config.is_file():
        return run.root.name  # a checkpoint or an export by itself
    if config.checkpoint.isdigit():
        return run.checkpoint(int(config.checkpoint)).name
    if config.checkpoint == "export" and run.export.is_dir():
        return "export"
    return run.checkpoint(run.steps()[-1]).name if run.steps() else "export"


def unattached_name(model: str, revision: str | None = None) -> str:
    """A unique folder name for a model that belongs to no run; two models may share their last name.

    >>> unattached_name("llava-hf/llava-1.5-7b-hf")
    'llava-hf--llava-1.5-7b-hf'

    The name of a local folder ends with a digest of its path: models/a/export and models/b/export are two models.
    """
    path = Path(model)
    if path.is_dir():
        return f"{path.resolve().name}-{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]}"
    return "--".join((*path.parts, *([revision] if revision else ())))
