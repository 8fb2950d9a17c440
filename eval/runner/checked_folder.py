"""Which model folders need no check by `--dry-run`, since they passed one or were loaded before, or as an export.

The check (`eval.models.folder_check`) loads PyTorch and transformers' model, about four seconds. To see that the folder
holds what it held before takes milliseconds (`train.models.folder_contents`):

an export     its record (export.json) has the hash of what was written; it is asked as in training
any folder    it passed a check, or an evaluation loaded it: an empty file named by a hash, in the folder
              $VLM_CLASSIFY_CACHE (default: ~/.cache/vlm-classify). Deleting it is safe.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

from configs.evaluation import EvalConfig
from configs.run_dir import RunDir
from configs.trained import protocol_as_trained, training_record_of_model
from eval.runner.as_trained import DECISIVE, differences
from eval.tasks.registry import task_output
from train.models.folder_contents import contents

CACHE = "VLM_CLASSIFY_CACHE"
SETTINGS = ("template", "system_prompt", "image_mode", "image_size", "min_pixels", "max_pixels")
"""Of the protocol's settings, those that a model folder may not support."""
CODE = ("configs", "train/chat", "train/models", "eval/models")


class CheckedFolder:
    """The model folder of an evaluation, as it is now."""

    def __init__(self, config: EvalConfig, folder: Path | None = None):
        """`folder` is that of `config.model` (a run: its export) if it is not given.

        Raises `ConfigError` for a safetensors file that is damaged.
        """
        if folder is None:
            folder = Path(config.model)
            if (run := RunDir(folder)).config.is_file():
                folder = run.export
        self._config = config
        self._trained = training_record_of_model(str(folder))
        self._contents = contents(folder)
        self._checked = _what_is_checked(config)

    def passed(self) -> bool:
        """Whether it passed the check with these settings and this code, or is an export asked as in training."""
        return self._mark().is_file() or self._is_as_exported()

    def remember(self) -> None:
        """It passed. A cache that cannot be written remembers nothing."""
        mark = self._mark()
        try:
            mark.parent.mkdir(parents=True, exist_ok=True)
            mark.touch()
        except OSError:
            return

    def _mark(self) -> Path:
        protocol = protocol_as_trained(self._config.protocol, self._trained)
        identity = {
            "contents": self._contents,
            "settings": [getattr(protocol, name) for name in SETTINGS],
            "checked": self._checked,
            "classes": protocol.classes if self._checked == "trained probe" else None,
            "code": sorted(_code()),
        }
        key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:32]
        cache = Path(os.environ.get(CACHE) or "~/.cache/vlm-classify").expanduser()
        return cache / "checked_model_folders" / key

    def _is_as_exported(self) -> bool:
        if self._trained is None or self._trained.contents != self._contents or self._checked != "model":
            return False
        decisive = {found.setting for found in differences(self._config, self._trained)} & set(DECISIVE)
        return decisive <= {"protocol.prompt"}  # any question can be asked


def _what_is_checked(config: EvalConfig) -> str:
    output = task_output(config.protocol.task)
    if output == "probe_scores":
        return "trained probe"
    return f"probed {config.probe.part}" if output == "hidden_states" else "model"


def _code() -> Iterator[tuple[str, int, int]]:
    """(file, size, time of the last change in ns) of the code that checks and loads models."""
    root = Path(__file__).parents[2]
    for part in CODE:
        for file in (root / part).glob("*.py"):
            state = file.stat()
            yield str(file.relative_to(root)), state.st_size, state.st_mtime_ns
