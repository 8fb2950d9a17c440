"""The line of a step in metrics.jsonl, and the words for a step that was not made."""

import resource
from typing import Any

import torch

from train.optimization.engine import Update
from train.optimization.step_totals import Totals


def step_record(totals: Totals, update: Update, seconds: float, waited: float) -> dict[str, Any]:
    """The fields of a step's line except step number and rates; `waited`: seconds spent waiting for data."""
    extras: dict[str, Any] = {} if update.rms is None else {"update_rms": update.rms}
    if totals.probe_loss is not None:
        extras["probe_loss"] = totals.probe_loss
    if not update.applied:
        extras["skipped"] = True
    return {
        "loss": totals.loss,
        "grad_norm": update.grad_norm,
        "tokens": totals.tokens,
        "supervised_tokens": totals.supervised,
        "samples": totals.samples,
        "samples_without_targets": totals.without_targets,
        "unreadable_samples": totals.unreadable,
        "samples_per_s": totals.samples / seconds,
        "tokens_per_s": totals.tokens / seconds,
        "data_wait_s": waited,
        "step_s": seconds,
        "loss_by_source": totals.by_source,
        **extras,
    }


def skip_message(record: dict[str, Any]) -> str:
    """Why a step's update was not made, for people: the rank and the samples where they are known."""
    found = record.get("nonfinite_samples")
    if found:
        named = "; ".join(f"rank {rank}: {' '.join(ids)}" for rank, ids in found.items())
        return f"update not made, weights and moments unchanged; not finite on {named}"
    norm = f"loss {record['loss']:.4g}, gradient norm {record['grad_norm']:.4g}"
    return f"update not made, weights and moments unchanged: {norm}"


def peak_memory(device: torch.device) -> int:
    """Most bytes used so far: allocated on a GPU, resident on a CPU."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
