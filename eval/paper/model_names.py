"""Names of the models in tables and figures: the end of a path, and the checkpoint where it is not the export."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from configs.run_dir import step_of

Model = tuple[str, str]
"""A run or a model, and which of its checkpoints: `export`, a step, last."""


def model_of_result(values: Mapping[str, Any]) -> Model:
    """The model and checkpoint that a report or probe is about."""
    path, step = Path(str(values["model"])), step_of(str(values["label"]))
    run = path.parent.parent if path.parent.name == "checkpoints" else path
    return str(run), "export" if step is None else str(step)


def model_of_record(record: Mapping[str, Any]) -> Model:
    """The model and checkpoint whose rows a reproduction's record holds."""
    return str(record["model"]), str(record["checkpoint"])


def model_names(models: Iterable[Model]) -> dict[Model, str]:
    """Short names: the last part of the path, more parts where two would be equal, and the checkpoint.

    >>> list(model_names([("a/x", "export"), ("a/x", "500"), ("b/y", "export")]).values())
    ['x', 'x step 500', 'y']
    """
    known = dict.fromkeys(models)
    paths = {path for path, _ in known}
    return {(path, checkpoint): f"{_end(path, paths)}{_suffix(checkpoint)}" for path, checkpoint in known}


def _end(path: str, paths: Iterable[str]) -> str:
    others = [f"/{Path(other).as_posix()}" for other in paths if other != path]
    parts = Path(path).parts
    ends = ("/".join(parts[-count:]) for count in range(1, len(parts)))
    return next((end for end in ends if not any(other.endswith(f"/{end}") for other in others)), path)


def _suffix(checkpoint: str) -> str:
    return "" if checkpoint == "export" else f" {'step ' if checkpoint.isdigit() else ''}{checkpoint}"
