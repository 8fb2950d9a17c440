"""A collection: the shards and the run that a quickstart made of one folder, and whether they are of its content.

`quickstart.json`, in both, records the folder, an identity of its content, and the settings of the training. Another
folder of the same name, or other photographs, never replace a training without `--rebuild`.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from configs.errors import RunError
from configs.run import RunConfig
from configs.run_dir import RunDir
from configs.section import result_fields
from configs.words import counted
from data_prep import atomic
from data_prep.file_lock import is_held


@dataclass(frozen=True)
class Record:
    """What a collection was made of; `settings` are those that change the result of the training."""

    folder: str
    content: str
    photographs: int
    classes: int
    settings: Mapping[str, Any]

    @classmethod
    def read(cls, file: Path) -> "Record | None":
        """The record in `file`; None if there is none, or a damaged one."""
        try:
            return cls(**json.loads(file.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    @property
    def size(self) -> str:
        """Its photographs and classes in words."""
        return f"{counted(self.photographs, 'photograph')} in {counted(self.classes, 'class')}"


@dataclass(frozen=True)
class Collection:
    """The folders of shards and run under one name."""

    name: str
    shards: Path
    run: RunDir

    @property
    def files(self) -> tuple[Path, Path]:
        """The record of the run, and that of the shards: either may be removed to make room."""
        return self.run.root / "quickstart.json", self.shards / "quickstart.json"

    @property
    def trained(self) -> bool:
        """Whether a training has begun: it has metrics, a checkpoint or an export."""
        return self.run.metrics.is_file() or bool(self.run.steps()) or self.run.export.is_dir()

    def check(self, now: Record, *, rebuild: bool) -> None:
        """Raise `RunError` if the collection is not of the folder and content `now`, with the option that helps."""
        used = [str(folder) for folder in (self.shards, self.run.root) if folder.is_dir() and any(folder.iterdir())]
        before = next(filter(None, map(Record.read, self.files)), None)
        if before is None:
            if used:
                raise RunError(
                    f"{' and '.join(used)}: not made by a quickstart of this folder; choose another name for this "
                    f"collection: --name {self._free_name()}"
                )
            return
        moved = before.content == now.content and not Path(before.folder).is_dir()
        if before.folder != now.folder and not moved:
            raise RunError(
                f"{' and '.join(used)}: of another folder, {before.folder} ({before.size}); choose another name for "
                f"this collection: --name {self._free_name()}"
            )
        if rebuild and self.run.lock.is_file() and is_held(self.run.lock):
            raise RunError(f"{self.run.root} is being trained by another process; wait for it, or choose a --name")
        if rebuild or not self.trained:
            return
        if before.content != now.content:
            was = f"{before.size}, now {now.size}" if before.size != now.size else f"{before.size}, some of them others"
            raise RunError(
                f"{self.run.root} was trained on other photographs of this folder ({was}); to train on those it has "
                f"now, next to it: --name {self._free_name()}; or in its place: --rebuild, which keeps the trained run "
                f"as {self._kept()}"
            )
        changed = _changes(before.settings, now.settings)
        if changed:
            raise RunError(
                f"{self.run.root} was trained with other settings ({'; '.join(changed[:3])}); to train with these "
                f"next to it: --name {self._free_name()}; or in its place: --rebuild, which keeps the trained run as "
                f"{self._kept()}"
            )

    def prepare(self, now: Record, *, rebuild: bool) -> str | None:
        """Write the record; with `rebuild`, put an earlier training aside. Returns a sentence about that training.

        An unfinished training of the same photographs and settings continues: `rebuild` was interrupted.
        """
        moved = None
        if rebuild and self.trained and self._unfinished(now):
            moved = f"{self.run.root} is an unfinished training on these photographs, which continues"
        elif rebuild and self.trained:
            kept = self._kept()
            self.run.root.rename(kept)
            moved = f"the earlier run is kept as {kept}; remove it if it is not needed"
        for file in self.files:
            file.parent.mkdir(parents=True, exist_ok=True)
            atomic.write_bytes(file, json.dumps(asdict(now), ensure_ascii=False, indent=1).encode() + b"\n")
        return moved

    def _unfinished(self, now: Record) -> bool:
        before = Record.read(self.files[0])
        same = before is not None and before.content == now.content and not _changes(before.settings, now.settings)
        return same and not self.run.export.is_dir()

    def _kept(self) -> Path:
        return _free(self.run.root)

    def _free_name(self) -> str:
        """A name that neither shards nor runs use."""
        number = 2
        while any(folder.with_name(f"{self.name[:60]}-{number}").exists() for folder in (self.shards, self.run.root)):
            number += 1
        return f"{self.name[:60]}-{number}"


def record_of(folder: Path, content: str, counts: tuple[int, int], config: RunConfig) -> Record:
    """The record of a folder with `counts` photographs and classes, trained with `config`."""
    settings = json.loads(json.dumps(result_fields(config), default=str))
    return Record(str(folder.resolve()), content, *counts, settings)


def _free(folder: Path) -> Path:
    number = 1
    while (kept := folder.with_name(f"{folder.name}-{number}")).exists():
        number += 1
    return kept


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    keys = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    return [f"{key} {before.get(key, 'not set')} -> {now.get(key, 'not set')}" for key in keys]
