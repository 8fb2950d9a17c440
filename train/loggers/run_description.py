"""What W&B and TensorBoard say of a run: its settings, base, data, machines and versions, from the run's own files."""

import contextlib
import json
from collections.abc import Mapping
from typing import Any

import yaml

from configs.credentials import without_secrets
from configs.run_dir import RunDir
from data_prep.provenance import read_starts

NOT_SHOWN = ("slurm", "logging", "runs_dir")  # of the cluster and this machine
OF_START = ("world_size", "code", "packages", "python", "gpus", "cpus")  # not the command line and the host's name


def describe_run(run: RunDir) -> dict[str, Any]:
    """The settings of config.yaml, and `base_identity`, `data_fingerprints`, and `OF_START` of the last start.

    A value that looks like a secret is left out. What a file lacks, or a damaged file, is left out as well.
    """
    identity = _read(run.identity.read_text, json.loads)
    settings = {
        key: value for key, value in _read(run.config.read_text, yaml.safe_load).items() if key not in NOT_SHOWN
    }
    start: Mapping[str, Any] = next(iter(read_starts(run.provenance)[-1:]), {})
    about = settings | {
        "base_identity": identity.get("base_identity"),
        "data_fingerprints": identity.get("data"),
        "kernels": identity.get("settings", {}).get("model.kernels"),
        **{key: start.get(key) for key in OF_START},
    }
    return dict(without_secrets({key: value for key, value in about.items() if value is not None}))


def _read(text: Any, parse: Any) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError, yaml.YAMLError):
        found = parse(text(encoding="utf-8"))
        return found if isinstance(found, dict) else {}
    return {}
