"""Writing checkpoints: a kill or a full disk at any instant leaves the old ones, or the new one.

Temporary folder, every file forced to the disk, the manifest last, the folder renamed, the name forced to the disk;
only then are old checkpoints deleted. Of a checkpoint of the same step (as after a rollback) the old one is moved
backup first and comes back if the writer dies between the two renames. One process writes: the leading rank.
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
from configs.training import CheckpointConfig
from data_prep.atomic import sync_folder, write_bytes
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

MARGIN = 1.2  # of the bytes to be written, what must be free before the first is: others write to the disk as well


@dataclass(frozen=True)
class Snapshot:
    """A training state in this process's memory: 12 bytes for each trained weight."""

    step: int
    weights: dict[str, torch.Tensor]
    moments: dict[str, torch.Tensor]
    state: dict[str, Any]

    @classmethod
    def take(cls, step: int, parameters: Iterable[ParameterState], state: Mapping[str, Any]) -> "Snapshot":
        """Collect `parameters`, whose reading is collective; `state` is what else a resume needs, JSON-able."""
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
        """`run` says where, `config` how many are kept."""
        self.run = run
        self.config = config

    def write(self, snapshot: Snapshot) -> Path:
        """Commit a checkpoint; returns its folder.

        Raises `OSError` if the disk is full or fails; what was written by then is removed, older ones are untouched.
        """
        folder = self.run.checkpoint(snapshot.step)
        temporary, backup = _temporary(folder), _backup(folder)
        shutil.rmtree(temporary, ignore_errors=True)
        self.require_room(snapshot.nbytes)
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

    def require_room(self, size: int) -> None:
        """Raise `OSError` (ENOSPC) in words unless `size` bytes and a margin are free."""
        place = _existing(self.run.checkpoints)
        free, needed = shutil.disk_usage(place).free, int(size * MARGIN)
        if free < needed:
            text = f"{needed / 1e6:.1f} MB must be free (the state x {MARGIN}) and {free / 1e6:.1f} MB are"
            raise OSError(errno.ENOSPC, text, str(self.run.checkpoints))

    def _sync_metrics(self) -> None:
        """Force the lines of the steps that the checkpoint stands after to the disk: a resume does not make them again.

        The last held-out loss is one of them.
        """
        for file in (self.run.metrics, self.run.events):
            with contextlib.suppress(FileNotFoundError):
                descriptor = os.open(file, os.O_RDONLY)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)

    def prune(self, newest: int) -> None:
        """Delete what is neither among the last `keep_last` up to step `newest` nor a multiple of `keep_every`.

        What an earlier, killed pruning left half deleted goes as well. Raises `OSError` if the disk refuses.
        """
        present = [step for step in steps_present(self.run) if step <= newest and _is_ours(self.run.checkpoint(step))]
        whole = [step for step in present if (self.run.checkpoint(step) / MANIFEST).is_file()]
        every = self.config.keep_every
        kept = {*whole[-self.config.keep_last :], *(step for step in whole if every and step % every == 0)}
        for step in present:
            if step not in kept:
                remove_checkpoint(self.run.checkpoint(step))


def cleanup_partial(run: RunDir) -> None:
    """Remove what a killed writer left behind. Call it only where no writer is at work."""
    if not run.checkpoints.is_dir():
        return
    for leftover in run.checkpoints.glob(".step-*.old"):
        _settle_backup(leftover.with_name(leftover.name[1 : -len(".old")]))
    for leftover in run.checkpoints.glob(".step-*.tmp"):
        shutil.rmtree(leftover, ignore_errors=True)


def check_writable(run: RunDir) -> None:
    """Write a probe file of 1 MiB to the checkpoints. Raises `RunError` if they are read-only or a quota is spent."""
    probe = run.checkpoints / ".probe"
    try:
        run.checkpoints.mkdir(parents=True, exist_ok=True)
        write_bytes(probe, bytes(1 << 20))
        probe.unlink()
    except OSError as error:
        raise RunError(
            f"cannot write checkpoints to {run.checkpoints}: {error.strerror or error}; mend that, or set runs_dir"
        ) from error


def _temporary(folder: Path) -> Path:
    """Where the checkpoint `folder` is written."""
    return folder.with_name(f".{folder.name}.tmp")


def _backup(folder: Path) -> Path:
    """Where an older checkpoint of the same step waits until its successor stands."""
    return folder.with_name(f".{folder.name}.old")


def _settle_backup(folder: Path) -> None:
    """After both renames the one backup is rubbish; between them it is the checkpoint and goes back."""
    backup = _backup(folder)
    if folder.exists():
        shutil.rmtree(backup, ignore_errors=True)
    elif backup.exists():
        backup.rename(folder)


def _is_ours(folder: Path) -> bool:
    """A real folder with nothing in it but files of a checkpoint."""
    return not folder.is_symlink() and {file.name for file in folder.iterdir()} <= {*FILES, MANIFEST}


def _existing(place: Path) -> Path:
    """`place`, or the nearest folder above it that is there."""
    while not place.exists():
        place = place.parent
    return place
