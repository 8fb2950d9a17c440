"""Which model folders have passed the check of `--dry-run`, so that an unchanged one need not be checked again.

The check (`eval.models.folder_check`) loads PyTorch and transformers, about three seconds; to see that folder, prompt
and code are those of an earlier check takes milliseconds. Only a passed check is remembered, as an empty file named by
a hash, in the folder $VLM_CLASSIFY_CACHE (default: ~/.cache/vlm-classify). Deleting it is safe.
"""

import hashlib
import importlib.metadata
import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from configs.evaluation import EvalConfig
from configs.run_dir import RunDir
from configs.trained import protocol_as_trained, training_record_of_model

CACHE = "VLM_CLASSIFY_CACHE"
PACKAGES = ("torch", "transformers", "tokenizers", "safetensors")
CODE = ("configs", "train/chat", "train/models", "eval/models")


class CheckedFolder:
    """The model folder of an evaluation, as it is now."""

    def __init__(self, config: EvalConfig):
        """Read names, sizes and times of its files; no content."""
        folder = Path(config.model)
        if (run := RunDir(folder)).config.is_file():
            folder = run.export
        protocol = protocol_as_trained(config.protocol, training_record_of_model(config.model))
        identity = {
            "folder": str(folder.resolve()),
            "files": sorted(_stamps(folder.glob("*"), folder)),
            "protocol": asdict(protocol),
            "probed part": config.probe.part,
            "packages": [importlib.metadata.version(package) for package in PACKAGES],
            "code": sorted(_code()),
        }
        key = hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()[:32]
        cache = Path(os.environ.get(CACHE) or "~/.cache/vlm-classify").expanduser()
        self._mark = cache / "checked_model_folders" / key

    def passed(self) -> bool:
        """Whether it passed the check, with this protocol and this code."""
        return self._mark.is_file()

    def remember(self) -> None:
        """It passed. A cache that cannot be written remembers nothing."""
        try:
            self._mark.parent.mkdir(parents=True, exist_ok=True)
            self._mark.touch()
        except OSError:
            return


def _stamps(files: Iterator[Path], folder: Path) -> Iterator[tuple[str, int, int]]:
    """(name, size, time of the last change in ns) of each file; links, as those of the hub's cache, are followed."""
    for file in files:
        if file.is_file():
            state = file.stat()
            yield str(file.relative_to(folder)), state.st_size, state.st_mtime_ns


def _code() -> Iterator[tuple[str, int, int]]:
    root = Path(__file__).parents[2]
    for part in CODE:
        yield from _stamps((root / part).glob("*.py"), root)
