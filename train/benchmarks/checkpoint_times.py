"""Time of a checkpoint, next to DeepSpeed's own."""

import argparse
import contextlib
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from configs.batch_plan import split_batch
from configs.command_line import emit_json
from configs.load import load_config
from configs.run import RunConfig
from configs.run_dir import RunDir, step_name
from configs.saving import CheckpointConfig
from train.checkpoints.async_checkpointer import AsyncCheckpointer
from train.checkpoints.writing import CheckpointWriter, Snapshot
from train.distributed.world import World, start_world, stop_world
from train.models.loading import load_model
from train.models.loss_module import LossModule
from train.models.param_groups import choose_trainable
from train.models.registry import trainable_family_of
from train.optimization.engine import Engine
from train.optimization.zero import deepspeed_config
from train.toy.random_models import write_random_base

Figures = dict[str, float]


def make_engine(root: Path, arguments: argparse.Namespace, world: World) -> Engine:
    """A DeepSpeed engine with LoRA and projector on a frozen random base; no data."""
    settings = {
        "name": "benchmark",
        "data": {"sources": {"none": {"reader": "image_folder"}}},
        "model": {"base": str(root / "base"), "dtype": "bf16", "mode": "lora", "lora": {"rank": arguments.rank}},
        "train": {"sources": ["none"], "global_batch": 1},
        "deepspeed": {"zero_stage": arguments.zero_stage},
    }
    file = root / "benchmark.yaml"
    file.write_text(json.dumps(settings))  # JSON is YAML
    config, _ = load_config(RunConfig, file)
    write_random_base(root / "base", arguments.shape, dtype=torch.bfloat16, device=world.device.type)
    loaded = load_model(str(root / "base"), None, "bf16", "sdpa", world.device.type)
    family = trainable_family_of(root / "base")
    choose_trainable(loaded.model, family, config.model, config.optim)
    module = LossModule(loaded.model, family)
    return Engine(module, deepspeed_config(config, split_batch(config.train, 1)), config.optim, world)


def save_ours(engine: Engine, folder: Path, step: int) -> Figures:
    """Our save, in a thread as in training: (training stopped, safe on disk, bytes)."""
    checkpointer = AsyncCheckpointer(CheckpointWriter(RunDir(folder), CheckpointConfig(keep_last=1)), asynchronous=True)
    began = time.perf_counter()
    checkpointer.begin(Snapshot.take(step, engine.state.read(), {}), began)
    outcome = checkpointer.finished(wait=True)
    assert outcome is not None and outcome.error is None, outcome
    return {"stopped_s": outcome.waited, "safe_s": outcome.seconds, "bytes": float(outcome.size)}


def save_theirs(engine: Engine, folder: Path, step: int, **options: Any) -> Figures:
    """DeepSpeed's `save_checkpoint`, then fsync of its files."""
    began = time.perf_counter()
    engine.engine.save_checkpoint(str(folder), tag=step_name(step), **options)
    stopped = time.perf_counter() - began
    files = [file for file in (folder / step_name(step)).rglob("*") if file.is_file()]
    for file in files:
        with file.open("rb") as stream:
            os.fsync(stream.fileno())
    safe, size = time.perf_counter() - began, sum(file.stat().st_size for file in files)
    shutil.rmtree(folder)
    return {"stopped_s": stopped, "safe_s": safe, "bytes": float(size)}


def measure(root: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Medians of every variant over `arguments.repeats` rounds, and their ratios to ours."""
    world = start_world()
    engine = make_engine(root, arguments, world)
    sides: dict[str, Callable[[int], Figures]] = {
        "ours": lambda step: save_ours(engine, root / "ours", step),
        "deepspeed": lambda step: save_theirs(engine, root / "theirs", step),
        "deepspeed, no frozen": lambda step: save_theirs(engine, root / "theirs", step, exclude_frozen_parameters=True),
    }
    rounds = [{name: save(step) for name, save in sides.items()} for step in range(arguments.repeats + 1)][1:]
    figures = {
        name: {key: statistics.median(once[name][key] for once in rounds) for key in ("stopped_s", "safe_s", "bytes")}
        for name in sides
    }
    ratios = {
        name: {key: value / figures["ours"][key] for key, value in side.items()}
        for name, side in figures.items()
        if name != "ours"
    }
    total = sum(getattr(p, "ds_numel", p.numel()) for p in engine.module.model.parameters())
    about = {"parameters": total, "trainable": engine.state.size, "zero_stage": engine.stage}
    stop_world()
    return {**about, "repeats": arguments.repeats, "figures": figures, "ratio_to_ours": ratios}


def table(result: dict[str, Any]) -> str:
    """The result as a text table."""
    lines = [
        f"{result['parameters'] / 1e6:.1f} M parameters, {result['trainable'] / 1e6:.1f} M of them trained, "
        f"ZeRO {result['zero_stage']}, medians of {result['repeats']}",
        f"{'':22}{'training stopped':>18}{'safe after':>14}{'size':>12}",
    ]
    for name, side in result["figures"].items():
        lines.append(f"{name:22}{side['stopped_s']:>16.3f} s{side['safe_s']:>12.3f} s{side['bytes'] / 1e6:>9.1f} MB")
    for name, ratio in result["ratio_to_ours"].items():
        lines.append(
            f"{name + ' / ours':22}{ratio['stopped_s']:>16.1f} x{ratio['safe_s']:>12.1f} x{ratio['bytes']:>9.1f} x"
        )
    return "\n".join(lines)


def measure_and_print(arguments: argparse.Namespace) -> None:
    """Measure in a temporary folder and print."""
    with (
        tempfile.TemporaryDirectory(prefix="vlm-checkpoints-", dir=arguments.folder) as folder,
        contextlib.redirect_stdout(sys.stderr),  # stdout has only the figures
    ):
        result = measure(Path(folder), arguments)
    if not emit_json(arguments.json, result):
        print(table(result))
