"""What a run's folder says about a start of the run: does it hold one, is it being trained, are its settings others?

Read without torch, so that a job is refused before it waits in a queue, and a training before its imports.
"""

import difflib
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from configs.errors import ConfigError, RunError, UserError
from configs.locations import as_url
from configs.run import RunConfig
from configs.run_dir import CheckpointDir, RunDir
from configs.section import field_defaults, result_fields
from configs.shard_dir import ShardDir
from data_prep.file_lock import hold_folder, refuse_if_held

BASE = "model.base"
OF_THE_MACHINE = ("model.kernels", "train.micro_batch", "world_size")
"""Recorded settings that follow from the machines of a training: another machine cannot compare them."""
OF_THE_DATA = ("train.shares in entries",)
LOCK_WORDS = ("being trained", "wait for it, stop it, or choose another name")

State = Mapping[str, Any]
"""A checkpoint's state.json: `settings`, `data` and `base_identity` are those of its run."""


def contains_run(run: RunDir) -> bool:
    """Whether a training has begun in this folder."""
    return run.metrics.is_file() or (run.checkpoints.is_dir() and any(run.checkpoints.iterdir()))


def used_folder(run: RunDir) -> RunError:
    """The error for a start without `--resume` in a folder that holds a run."""
    return RunError(f"{run.root} already contains a run; continue it with --resume auto, or choose another name")


def lock_run(run: RunDir) -> None:
    """Lock `run` for this process until it ends. Raises `RunError` naming the process that holds the lock.

    On a file system without locks (Lustre's default mount, some NFS) the run continues without a lock and says so.
    """
    doing, remedy = LOCK_WORDS
    hold_folder(run.lock, doing, remedy=remedy, unlocked="make sure that no second process trains this run")


def refuse_start(run: RunDir, *, resume: bool) -> None:
    """Raise `RunError` if another process trains `run`, or if it holds a run and is not to be resumed."""
    doing, remedy = LOCK_WORDS
    refuse_if_held(run.lock, doing, remedy=remedy)
    if not resume and contains_run(run):
        raise used_folder(run)


def newest_state(run: RunDir) -> tuple[Path, State] | None:
    """Folder and state of the newest complete checkpoint, without a check of its checksums; None without one."""
    for step in reversed(run.steps()):
        files = CheckpointDir(run.checkpoint(step))
        try:
            state = json.loads(files.state.read_text(encoding="utf-8")) if files.manifest.is_file() else None
        except (OSError, ValueError):
            continue
        if isinstance(state, dict) and all(isinstance(state.get(key), dict) for key in ("settings", "data")):
            return files.root, state
    return None


def differences(saved: State, now: State, usual: Mapping[str, Any], ignored: Collection[str] = ()) -> dict[str, str]:
    """Key to a readable difference, for base, data and each setting that is not `ignored`.

    `usual` has the defaults: a setting that is newer than `saved` had its default. A base of unknown identity is none.
    """
    found: dict[str, str] = {}
    newer = {key: usual[key] for key in now["settings"] if key in usual and key not in saved["settings"]}
    saved = {**saved, "settings": json.loads(json.dumps(newer)) | saved["settings"]}
    before, after = saved.get("base_identity"), now.get("base_identity")
    if before != after and before and after:
        found[BASE] = f"base model {before[:12]} -> {after[:12]}"
    for kind in ("data", "settings"):
        for key in sorted(saved[kind].keys() | now[kind].keys()):
            before, after = saved[kind].get(key), now[kind].get(key)
            if before != after and key not in ignored:
                name = f"data.{key}" if kind == "data" else key
                found[name] = f"{name} {before!r} -> {after!r}"
    return found


def another_run(folder: Path, found: Mapping[str, str], next_step: str) -> RunError:
    """The error for a checkpoint in `folder` that differs from the run in what `differences` found."""
    return RunError(f"{folder} belongs to another run: {'; '.join(found.values())}. {next_step}")


def start_problem(config: RunConfig) -> str | None:
    """Why `--resume auto`, as a job starts it, would be refused: checkpoints of other settings or data; None if not.

    Compared is what is known without the model: settings, and the data whose shards are built.
    """
    run = RunDir(Path(config.runs_dir) / config.name)
    found = newest_state(run)
    if found is None:
        if not run.steps():
            return None
        return f"no checkpoint in {run.checkpoints} is complete; remove them to start over, or choose another name"
    folder, saved = found
    data = {name: _built(config, name) or fingerprint for name, fingerprint in saved["data"].items()}
    now = {"settings": json.loads(json.dumps(result_fields(config))), "data": data}
    changed = differences(saved, now, field_defaults(config), (*OF_THE_MACHINE, *OF_THE_DATA))
    if not changed:
        return None
    return str(another_run(folder, changed, "Undo the change, or choose another name (--set name=…)"))


def _built(config: RunConfig, name: str) -> str | None:
    """The fingerprint of the data of a source; None if its shards are not built here."""
    folder = Path(config.data.shards) / name
    if as_url(config.data.shards) is not None or not ShardDir(folder).manifest.is_file():
        return None
    from data_prep.manifest import read_manifest  # loads Pillow, which a start without shards does not need

    try:
        return read_manifest(folder).fingerprint or None
    except UserError:  # a damaged manifest is named by who reads it next
        return None


def check_accepted(accepted: Sequence[str], config: RunConfig) -> None:
    """Raise `ConfigError` for a name of `--accept-change` that no difference can have, with those that are near it."""
    saved = (newest_state(RunDir(Path(config.runs_dir) / config.name)) or (None, {"settings": {}, "data": {}}))[1]
    names = {*result_fields(config), *saved["settings"], *OF_THE_MACHINE, *OF_THE_DATA, BASE}
    names |= {f"data.{name}" for name in (*config.data.sources, *saved["data"])}
    for key in accepted:
        if key in names:
            continue
        if key in field_defaults(config):
            raise ConfigError(f"--accept-change {key}: {key} changes no result and may differ; leave the option out")
        near = difflib.get_close_matches(key, sorted(names), n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else "give a setting that the error of a resume names"
        raise ConfigError(f"--accept-change {key}: no setting has this name; {hint}")
