"""What `slurm.setup` exports to the jobs, as far as it is written there, and what they will not find because of it."""

import os
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from configs.locations import is_hub_id
from configs.run_dir import MODEL_CONFIG

ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)=(.*)")
TRUE = ("1", "TRUE", "YES", "ON")
OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")


def exported(setup: Sequence[str]) -> dict[str, str]:
    """The variables that lines of the form `export NAME=VALUE` set; those whose value is computed are left out.

    >>> exported(["module load cuda", "export HF_HOME='/shared/hf' HF_HUB_OFFLINE=1", "export A=$B"])
    {'HF_HOME': '/shared/hf', 'HF_HUB_OFFLINE': '1'}
    """
    found: dict[str, str] = {}
    for line in setup:
        try:
            words = shlex.split(line, comments=True)
        except ValueError:
            continue
        for word in words[1:] if words[:1] == ["export"] else ():
            match = ASSIGNMENT.fullmatch(word)
            if match and not re.search(r"[$`]", match[2]):
                found[match[1]] = match[2]
            elif match:
                found.pop(match[1], None)
    return found


def other_home(setup: Sequence[str]) -> str | None:
    """HF_HOME of the jobs, if `setup` sets another than this process has."""
    home = exported(setup).get("HF_HOME")
    return home if home is not None and home.rstrip("/") != os.environ.get("HF_HOME", "").rstrip("/") else None


def missing_model(setup: Sequence[str], model: str) -> Iterator[str]:
    """The problem of a `model` of the hub that jobs without a network would not find in their cache."""
    variables = exported(setup)
    if not is_hub_id(model) or not any(variables.get(name, "").upper() in TRUE for name in OFFLINE):
        return
    home = variables.get("HF_HOME") or os.environ.get("HF_HOME") or "~/.cache/huggingface"
    cache = Path(home).expanduser() / "hub"
    if not any(cache.glob(f"models--{model.replace('/', '--')}/snapshots/*/{MODEL_CONFIG}")):
        yield (
            f"slurm.setup has no network ({' or '.join(OFFLINE)}), and {model} is not in {cache}; fetch it here: "
            f"HF_HOME={shlex.quote(home)} python -m launch.prefetch --model {model}"
        )
