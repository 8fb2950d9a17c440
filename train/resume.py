"""Where a run starts: a new folder, or a checkpoint that belongs to this data, this base and these settings.

World size, micro-batch, workers, paths and cadences may change between the two; what changes the result is refused
with the difference, unless it is named as intended.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from configs.errors import RunError
from configs.load import to_yaml
from configs.schema import result_fields
from data_prep.atomic import write_bytes
from train.checkpoints import Checkpoint, newest_checkpoint
from train.plan import RunPlan


@dataclass(frozen=True)
class Start:
    """Step 0 (`checkpoint` is None) or a checkpoint; `problems` are damaged checkpoints that were passed over."""

    identity: dict[str, Any]
    checkpoint: Checkpoint | None
    problems: list[str]

    @property
    def step(self) -> int:
        """Optimizer steps already done."""
        return self.checkpoint.step if self.checkpoint else 0


def run_identity(plan: RunPlan) -> dict[str, Any]:
    """What a checkpoint of this run belongs to."""
    return {
        "base_identity": plan.identity,
        "data": plan.sources.fingerprints(),
        "settings": json.loads(json.dumps(result_fields(plan.config))),
        "wandb_id": hashlib.sha256(f"{plan.run.root.resolve()} {plan.identity}".encode()).hexdigest()[:12],
    }


def open_run(plan: RunPlan, *, resume: bool, accepted: Sequence[str] = ()) -> Start:
    """Decide where to start. Every rank calls it and, reading the same files, decides the same.

    Raises `RunError` if the folder is not empty without `resume`, or if the checkpoint belongs to something else.
    """
    run, identity = plan.run, run_identity(plan)
    used = run.metrics.is_file() or (run.checkpoints.is_dir() and any(run.checkpoints.iterdir()))
    if used and not resume:
        raise RunError(f"{run.root} already holds a run; continue it with --resume auto, or choose another name")
    checkpoint, problems = newest_checkpoint(run)
    if checkpoint is None:
        return Start(identity, None, problems)
    differences = _differences(checkpoint.state, identity)
    refused = {key: text for key, text in differences.items() if key not in accepted}
    if refused:
        listed = "; ".join(refused.values())
        raise RunError(
            f"{checkpoint.folder} belongs to another run: {listed}. Undo the change, choose another name, or name it "
            f"as intended: {' '.join(f'--accept-change {key}' for key in refused)}"
        )
    return Start(identity, checkpoint, problems)


def _differences(saved: dict[str, Any], now: dict[str, Any]) -> dict[str, str]:
    """Key to a readable difference, for base, data and each setting."""
    found: dict[str, str] = {}
    if saved["base_identity"] != now["base_identity"]:
        found["model.base"] = f"base model {saved['base_identity'][:12]} -> {now['base_identity'][:12]}"
    for kind in ("data", "settings"):
        for key in sorted(saved[kind].keys() | now[kind].keys()):
            before, after = saved[kind].get(key), now[kind].get(key)
            if before != after:
                name = f"data.{key}" if kind == "data" else key
                found[name] = f"{name} {before!r} -> {after!r}"
    return found


def write_run_files(plan: RunPlan, start: Start) -> None:
    """Write the resolved config and the identity into the run folder, and remove a requeue mark."""
    plan.run.root.mkdir(parents=True, exist_ok=True)
    plan.run.requeue.unlink(missing_ok=True)
    write_bytes(plan.run.config, to_yaml(plan.config).encode())
    write_bytes(plan.run.identity, json.dumps(start.identity, indent=1).encode())
