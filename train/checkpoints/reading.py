"""Reading checkpoints: find them, verify them, load them.

    checkpoints/step-00000500/weights.safetensors      trainable weights, fp32
                              optimizer.safetensors    AdamW's two moments
                              state.json               data order, monitor, identities, result-changing settings
                              manifest.json            sha256 of each file and of itself; written last

The newest checkpoint is found by listing the folder, without a pointer file. Every file is verified by its sha256, and
a damaged checkpoint is skipped with a warning. Frozen weights are not saved. Nothing is pickled, and only the files
that `train.checkpoints.writing` writes are read: no links, no others.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from configs.errors import RunError
from configs.run_dir import CheckpointDir, RunDir
from data_prep.checksum import sha256_of
from train.optimization.full_state import MOMENTS, ParameterState

_NAMES = CheckpointDir(Path())
WEIGHTS, OPTIMIZER, STATE = _NAMES.weights.name, _NAMES.optimizer.name, _NAMES.state.name
MANIFEST = _NAMES.manifest.name
FILES = (WEIGHTS, OPTIMIZER, STATE)
FORMAT_VERSION = 1
SELF = "manifest_sha256"


class OtherFormat(RunError):
    """A complete checkpoint of another version of this tool: an error, never skipped for an older checkpoint."""


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint; `digest` differs between any two checkpoints, also of the same step."""

    folder: Path
    step: int
    state: dict[str, Any]
    digest: str

    def parameters(self) -> Iterator[ParameterState]:
        """The saved parameters, in the order they were written."""
        with safe_open(self.folder / WEIGHTS, "pt") as weights, safe_open(self.folder / OPTIMIZER, "pt") as optimizer:
            for name in self.state["parameters"]:
                moments = {key: optimizer.get_tensor(f"{name}.{key}") for key in MOMENTS}
                yield ParameterState(name, weights.get_tensor(name), moments)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each saved parameter, from the file's header."""
        with safe_open(self.folder / WEIGHTS, "pt") as weights:
            return {name: tuple(weights.get_slice(name).get_shape()) for name in self.state["parameters"]}

    def weights(self) -> dict[str, torch.Tensor]:
        """Trainable weights by name, fp32, on the CPU."""
        with safe_open(self.folder / WEIGHTS, "pt") as weights:
            return {name: weights.get_tensor(name) for name in weights.keys()}  # noqa: SIM118 - not a dict


def steps_present(run: RunDir) -> list[int]:
    """Steps that have a checkpoint folder, complete or not, oldest first."""
    return run.steps()


def open_checkpoint(run: RunDir, step: int) -> Checkpoint:
    """Verify and open the checkpoint of `step`.

    Raises `RunError` that names the damaged or missing file, `OtherFormat` for another version's.
    """
    try:
        return _verified(run, step)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, RunError):
            raise
        raise RunError(f"{run.checkpoint(step)} cannot be read ({type(error).__name__}: {error})") from error


def newest_checkpoint(run: RunDir) -> tuple[Checkpoint | None, list[str]]:
    """The newest complete checkpoint, and what is wrong with newer ones.

    Raises `RunError` if there are checkpoints but none is complete, so that a run never restarts from 0 silently.
    """
    problems: list[str] = []
    for step in reversed(steps_present(run)):
        try:
            return open_checkpoint(run, step), problems
        except OtherFormat:
            raise
        except RunError as error:
            problems.append(f"{run.checkpoint(step).name}: {error}")
    if problems:
        raise no_complete_checkpoint(run, problems)
    return None, problems


def no_complete_checkpoint(run: RunDir, problems: list[str]) -> RunError:
    """The error for a run that has checkpoints, none of which can be used."""
    return RunError(f"no checkpoint in {run.checkpoints} is complete: {'; '.join(problems)}; remove them to start over")


def _verified(run: RunDir, step: int) -> Checkpoint:
    folder = run.checkpoint(step)
    if not (folder / MANIFEST).is_file():
        present = ", ".join(map(str, steps_present(run))) or "none"
        raise RunError(f"{folder} is not a complete checkpoint (no {MANIFEST}); steps present: {present}")
    for path in (folder, *(folder / name for name in (*FILES, MANIFEST))):
        if path.is_symlink():
            raise RunError(f"{path} is a link; only files that this tool wrote there itself are read")
    text = (folder / MANIFEST).read_bytes()
    checksums = _checksums(folder, json.loads(text))
    for name in FILES:
        file = folder / name
        if not file.is_file():
            raise RunError(f"{folder} has no {name}")
        if sha256_of(file) != checksums[name]:
            raise RunError(f"{file} is damaged: its sha256 differs from the one in {MANIFEST}")
    state = json.loads((folder / STATE).read_text(encoding="utf-8"))
    if state["step"] != step:
        raise RunError(f"{folder} holds step {state['step']}: it was renamed")
    return Checkpoint(folder, step, state, hashlib.sha256(text).hexdigest())


def _checksums(folder: Path, manifest: dict[str, Any]) -> dict[str, str]:
    """File to sha256. The manifest's own checksum comes first: a flipped bit must not look like another format."""
    version = manifest["format_version"]
    if manifest[SELF] != manifest_sum(manifest):
        raise RunError(f"{folder / MANIFEST} is damaged: its content does not match its own sha256")
    if version != FORMAT_VERSION:
        raise OtherFormat(
            f"{folder} has format {version}; this version reads {FORMAT_VERSION}. Continue the run with the version "
            "that wrote it, or choose another name"
        )
    checksums: dict[str, str] = manifest["sha256"]
    if set(checksums) != set(FILES):
        raise RunError(f"{folder} contains {', '.join(checksums)}; a checkpoint has {', '.join(FILES)}")
    return checksums


def manifest_sum(manifest: Mapping[str, Any]) -> str:
    """sha256 of a manifest's content without the checksum field itself."""
    content = {key: value for key, value in manifest.items() if key != SELF}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def remove_checkpoint(folder: Path) -> None:
    """Delete a checkpoint, its manifest first, so that a partly deleted one is incomplete. Links are left alone."""
    if folder.is_symlink():
        return
    (folder / MANIFEST).unlink(missing_ok=True)
    shutil.rmtree(folder)
