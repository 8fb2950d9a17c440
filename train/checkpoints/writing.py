"""Writing checkpoints atomically: after a kill or a full disk at any moment there is the old state or the new one.

Files are written to a temporary folder and synced, the manifest last; the folder is renamed and its parent synced; only
then are old checkpoints deleted. An older checkpoint of the same step (as after a rollback) is renamed to a backup
first, and restored if the writer dies between the two renames. Only the main rank writes.
"""

import contextlib
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from configs.errors import RunError
from configs.run_dir import RunDir
from configs.saving import CheckpointConfig
from data_prep.atomic import sync_folder, write_bytes
from data_prep.byte_size import size as in_words
from data_prep.disk_space import free_space
from train.checkpoints.reading import (
    FILES,
    FORMAT_VERSION,
    MANIFEST,
    OPTIMIZER,
    SELF,
    STATE,
    WEIGHTS,
    manifest_sum,
    remove_checkpoint,
    steps_present,
)
from train.checkpoints.tensor_file import write_tensors
from train.optimization.full_state import ParameterState

MARGIN = 1.2  # free space required, as a multiple of the bytes to write: other processes write to the disk too


@dataclass(frozen=True)
class Snapshot:
    """A copy of the training state in host memory: 12 bytes per trained weight."""

    step: int
    weights: dict[str, torch.Tensor]
    moments: dict[str, torch.Tensor]
    state: dict[str, Any]

    @classmethod
    def take(cls, step: int, parameters: Iterable[ParameterState], state: Mapping[str, Any]) -> "Snapshot":
        """Collect `parameters` (a collective iterator); `state` is the rest that resuming needs, as JSON types."""
        weights: dict[str, torch.Tensor] = {}
        moments: dict[str, torch.Tensor] = {}
        for parameter in parameters:
            weights[parameter.name] = parameter.master
            moments |= {f"{parameter.name}.{key}": value for key, value in parameter.moments.items()}
        return cls(step, weights, moments, {**state, "step": step, "parameters": list(weights)})

    @property
    def nbytes(self) -> int:
        """Bytes of the tensors."""
        return sum(tensor.nbytes for group in (self.weights, self.moments) for tensor in group.values())


class CheckpointWriter:
    """Writes checkpoints of one run and prunes old ones after each commit."""

    def __init__(self, run: RunDir, config: CheckpointConfig):
        """Write to `run`, and keep as many as `config` says."""
        self.run = run
        self.config = config

    def write(self, snapshot: Snapshot) -> Path:
        """Commit a checkpoint; returns its folder.

        Raises `OSError` if the disk is full or fails; the partial checkpoint is removed, older ones stay.
        """
        folder = self.run.checkpoint(snapshot.step)
        temporary, backup = _temporary(folder), _backup(folder)
        shutil.rmtree(temporary, ignore_errors=True)
        self.require_disk_space(snapshot.nbytes)
        try:
            temporary.mkdir(parents=True)
            self._write_files(temporary, snapshot)
            self._sync_metrics()
            if folder.exists():
                folder.rename(backup)
            temporary.rename(folder)
            sync_folder(self.run.checkpoints)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            _settle_backup(folder)
            raise
        _settle_backup(folder)
        return folder

    def _write_files(self, folder: Path, snapshot: Snapshot) -> None:
        digests = {
            WEIGHTS: write_tensors(folder / WEIGHTS, snapshot.weights),
            OPTIMIZER: write_tensors(folder / OPTIMIZER, snapshot.moments),
        }
        text = json.dumps(snapshot.state, indent=1).encode()
        write_bytes(folder / STATE, text)
        digests[STATE] = hashlib.sha256(text).hexdigest()
        manifest: dict[str, Any] = {"format_version": FORMAT_VERSION, "sha256": digests}
        write_bytes(folder / MANIFEST, json.dumps(manifest | {SELF: manifest_sum(manifest)}, indent=1).encode())

    def require_disk_space(self, size: int) -> None:
        """Raise `OSError` (ENOSPC) unless `size` bytes times `MARGIN` are free."""
        (free, _), needed = free_space(self.run.checkpoints), int(size * MARGIN)
        if free < needed:
            text = f"{in_words(needed)} must be free (the state x {MARGIN}), and free: {in_words(free)}"
            raise OSError(errno.ENOSPC, text, str(self.run.checkpoints))

    def _sync_metrics(self) -> None:
        """Sync metrics.jsonl and events.jsonl: a resumed run does not repeat the steps before this checkpoint."""
        for file in (self.run.metrics, self.run.events):
            with contextlib.suppress(FileNotFoundError):
                descriptor = os.open(file, os.O_RDONLY)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)

    def best_step(self, snapshot: Snapshot) -> int | None:
        """The step to keep besides those that `prune` keeps by itself, by the state of `snapshot`."""
        step: int | None = snapshot.state.get("best", {}).get("step") if self.config.keep == "best" else None
        return step

    def prune(self, newest: int, best: int | None = None) -> None:
        """Delete what is neither among the last `keep_last` up to step `newest`, a multiple of `keep_every`, or `best`.

        Checkpoints that an interrupted pruning left partly deleted go too. Raises `OSError` if the disk fails.
        """
        present = [step for step in steps_present(self.run) if step <= newest and _is_ours(self.run.checkpoint(step))]
        complete = [step for step in present if (self.run.checkpoint(step) / MANIFEST).is_file()]
        every = self.config.keep_every
        kept = {best, *complete[-self.config.keep_last :], *(step for step in complete if every and step % every == 0)}
        for step in present:
            if step not in kept:
                remove_checkpoint(self.run.checkpoint(step))


def cleanup_partial(run: RunDir) -> None:
    """Remove or restore what a killed writer left behind. Call it only while no writer is running."""
    if not run.checkpoints.is_dir():
        return
    for leftover in run.checkpoints.glob(".step-*.old"):
        _settle_backup(leftover.with_name(leftover.name[1 : -len(".old")]))
    for leftover in run.checkpoints.glob(".step-*.tmp"):
        shutil.rmtree(leftover, ignore_errors=True)


def check_writable(run: RunDir) -> None:
    """Write and delete a file of 1 MiB. Raises `RunError` if the folder is read-only or a quota is used up."""
    probe = run.checkpoints / ".probe"
    try:
        run.checkpoints.mkdir(parents=True, exist_ok=True)
        write_bytes(probe, bytes(1 << 20))
        probe.unlink()
    except OSError as error:
        raise RunError(
            f"cannot write checkpoints to {run.checkpoints}: {error.strerror or error}; fix that, or set runs_dir"
        ) from error


def _temporary(folder: Path) -> Path:
    """Temporary name of the checkpoint `folder` while it is written."""
    return folder.with_name(f".{folder.name}.tmp")


def _backup(folder: Path) -> Path:
    """Name of an older checkpoint of the same step until its successor is complete."""
    return folder.with_name(f".{folder.name}.old")


def _settle_backup(folder: Path) -> None:
    """Delete the backup if its successor is in place; otherwise restore it."""
    backup = _backup(folder)
    if folder.exists():
        shutil.rmtree(backup, ignore_errors=True)
    elif backup.exists():
        backup.rename(folder)


def _is_ours(folder: Path) -> bool:
    """True for a real folder that contains only files of a checkpoint."""
    return not folder.is_symlink() and {file.name for file in folder.iterdir()} <= {*FILES, MANIFEST}
