"""Checkpoints that are whole or absent, small, and independent of ZeRO stage and world size.

    checkpoints/step-00000500/weights.safetensors      trainable weights, fp32
                              optimizer.safetensors    AdamW's two moments
                              state.json               order, monitor, identities, result-changing settings
                              manifest.json            sha256 of each file: the completion mark

Written into a temporary folder, fsynced, renamed. What is newest is found by looking, never read from a pointer file;
every file is checked against its sha256 before use, and a damaged checkpoint is passed over with a warning.
Frozen weights are not written. Nothing is pickled.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from configs.errors import RunError
from configs.run_dir import RunDir
from configs.schema import CheckpointConfig
from data_prep.atomic import write_bytes
from train.engine import MOMENTS, ParameterState

WEIGHTS = "weights.safetensors"
OPTIMIZER = "optimizer.safetensors"
STATE = "state.json"
MANIFEST = "manifest.json"
FORMAT_VERSION = 1
_STEP = re.compile(r"step-(\d{8})")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was found whole."""

    folder: Path
    step: int
    state: dict[str, Any]

    def parameters(self) -> Iterator[ParameterState]:
        """The saved parameters, in the order they were written."""
        with safe_open(self.folder / WEIGHTS, "pt") as weights, safe_open(self.folder / OPTIMIZER, "pt") as optimizer:
            for name in self.state["parameters"]:
                moments = {key: optimizer.get_tensor(f"{name}.{key}") for key in MOMENTS}
                yield ParameterState(name, weights.get_tensor(name), moments)

    def weights(self) -> dict[str, torch.Tensor]:
        """Trainable weights by name, fp32, on the CPU."""
        with safe_open(self.folder / WEIGHTS, "pt") as weights:
            return {name: weights.get_tensor(name) for name in weights.keys()}  # noqa: SIM118 - not a dict


def steps_present(run: RunDir) -> list[int]:
    """Steps that have a checkpoint folder, whole or not, oldest first."""
    if not run.checkpoints.is_dir():
        return []
    matches = (_STEP.fullmatch(folder.name) for folder in run.checkpoints.iterdir())
    return sorted(int(match.group(1)) for match in matches if match)


def open_checkpoint(run: RunDir, step: int) -> Checkpoint:
    """Verify and open the checkpoint of `step`. Raises `RunError` that names the damaged or missing file."""
    try:
        return _verified(run, step)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, RunError):
            raise
        raise RunError(f"{run.checkpoint(step)} cannot be read ({type(error).__name__}: {error})") from error


def _verified(run: RunDir, step: int) -> Checkpoint:
    folder = run.checkpoint(step)
    if not (folder / MANIFEST).is_file():
        present = ", ".join(map(str, steps_present(run))) or "none"
        raise RunError(f"{folder} is no complete checkpoint (no {MANIFEST}); steps present: {present}")
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    if manifest["format_version"] != FORMAT_VERSION:
        raise RunError(f"{folder} has format {manifest['format_version']}; this version reads {FORMAT_VERSION}")
    for name, digest in manifest["sha256"].items():
        file = folder / name
        if not file.is_file():
            raise RunError(f"{folder} has lost {name}")
        if _sha256(file) != digest:
            raise RunError(f"{file} is damaged: its sha256 is not the one in {MANIFEST}")
    return Checkpoint(folder, step, json.loads((folder / STATE).read_text(encoding="utf-8")))


def newest_checkpoint(run: RunDir) -> tuple[Checkpoint | None, list[str]]:
    """The newest whole checkpoint, and what was wrong with newer ones.

    Raises `RunError` if there are checkpoints but none is whole: never silently a start from step 0.
    """
    problems: list[str] = []
    for step in reversed(steps_present(run)):
        try:
            return open_checkpoint(run, step), problems
        except RunError as error:
            problems.append(f"{run.checkpoint(step).name}: {error}")
    if problems:
        raise RunError(f"no checkpoint in {run.checkpoints} is whole: {'; '.join(problems)}; remove them to start anew")
    return None, problems


class CheckpointWriter:
    """Writes checkpoints on the leading rank and prunes old ones after each commit."""

    def __init__(self, run: RunDir, config: CheckpointConfig):
        """`run` says where, `config` how many are kept."""
        self.run = run
        self.config = config

    def write(self, step: int, parameters: Iterator[ParameterState], state: Mapping[str, Any]) -> Path:
        """Commit the checkpoint of `step`; returns its folder. The iterator is consumed one tensor at a time."""
        weights: dict[str, torch.Tensor] = {}
        moments: dict[str, torch.Tensor] = {}
        for parameter in parameters:
            weights[parameter.name] = parameter.master
            moments |= {f"{parameter.name}.{key}": value for key, value in parameter.moments.items()}
        folder = self.run.checkpoint(step)
        temporary = folder.with_name(f".{folder.name}.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        try:
            save_file(weights, temporary / WEIGHTS)
            save_file(moments, temporary / OPTIMIZER)
            full = {**state, "step": step, "parameters": list(weights)}
            write_bytes(temporary / STATE, json.dumps(full, indent=1).encode())
            digests = {name: _sha256(temporary / name, sync=True) for name in (WEIGHTS, OPTIMIZER, STATE)}
            manifest = {"format_version": FORMAT_VERSION, "sha256": digests}
            write_bytes(temporary / MANIFEST, json.dumps(manifest, indent=1).encode())
            shutil.rmtree(folder, ignore_errors=True)
            temporary.rename(folder)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        self._prune(step)
        return folder

    def _prune(self, newest: int) -> None:
        """Delete what is neither among the last `keep_last` nor a multiple of `keep_every`."""
        steps = [step for step in steps_present(self.run) if step <= newest]
        every = self.config.keep_every
        for step in steps[: -self.config.keep_last]:
            if every and step % every == 0:
                continue
            folder = self.run.checkpoint(step)
            (folder / MANIFEST).unlink(missing_ok=True)  # first the mark: a half-deleted folder is no checkpoint
            shutil.rmtree(folder)


def _sha256(file: Path, sync: bool = False) -> str:
    """Hex digest of a file; `sync` also forces it to disk."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
        if sync:
            os.fsync(stream.fileno())
    return digest.hexdigest()
