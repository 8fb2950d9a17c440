"""Throughput and memory of a short training of a random model."""

import argparse
import contextlib
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from configs.command_line import emit_json, exit_on_user_error
from configs.errors import UserError
from configs.load import load_config
from configs.run import RunConfig
from data_prep import build
from train.benchmarks.against_transformers import compare_with_transformers
from train.benchmarks.generated import QUESTION, SYSTEM_PROMPT, make_images
from train.build import build_trainer
from train.distributed.world import start_world, stop_world
from train.loggers.jsonl import read_records
from train.models.loading import DTYPES
from train.plan import make_plan
from train.resume import open_run
from train.toy.random_models import write_random_base

CHECKPOINTING: dict[str, bool | str] = {"false": False, "true": True, "selective": "selective"}
WARMUP_STEPS = 3


def run_config(arguments: argparse.Namespace, root: Path) -> Path:
    """A run config like the paper's ImageNet run, with the benchmark's model and data."""
    config = {
        "name": "benchmark",
        "runs_dir": str(root / "runs"),
        "data": {
            "shards": str(root / "shards"),
            "sources": {
                "images": {"reader": "image_folder", "path": str(root / "raw"), "options": {"prompt": QUESTION}}
            },
        },
        "model": {
            "base": str(root / "base"),
            "dtype": arguments.dtype,
            "mode": arguments.mode,
            "attention": arguments.attention,
            "kernels": arguments.kernels,
            "activation_checkpointing": CHECKPOINTING[arguments.activation_checkpointing],
        },
        "chat": {"system_prompt": SYSTEM_PROMPT, "max_length": 2048 if arguments.shape != "tiny" else 512},
        "train": {
            "sources": ["images"],
            "global_batch": arguments.micro_batch * arguments.accumulation,
            "micro_batch": arguments.micro_batch,
            "max_steps": WARMUP_STEPS + arguments.steps,
            "epochs": WARMUP_STEPS + arguments.steps,
            "workers": arguments.workers,
        },
        "deepspeed": {"zero_stage": arguments.zero_stage},
        "checkpoint": {"every": 1_000_000, "export": False},
    }
    file = root / "benchmark.yaml"
    file.write_text(json.dumps(config))  # JSON is YAML
    return file


def measure(config_file: Path) -> dict[str, Any]:
    """Train the config and summarise its metrics."""
    config, _ = load_config(RunConfig, config_file)
    world = start_world()
    plan = make_plan(config, world.size, world.device.type)
    trainer = build_trainer(plan, world, open_run(plan, resume=False))
    trainer.run()
    for logger in reversed(trainer.components.loggers):
        logger.close()
    stop_world()
    steps = read_records(plan.run.metrics)[WARMUP_STEPS:]
    seconds = statistics.median(line["step_s"] for line in steps)
    result = {
        "device": torch.cuda.get_device_name() if world.device.type == "cuda" else "CPU",
        "torch": torch.__version__,
        "samples_per_s": statistics.median(line["samples_per_s"] for line in steps),
        "tokens_per_s": statistics.median(line["tokens_per_s"] for line in steps),
        "tokens_per_sample": steps[0]["tokens"] / steps[0]["samples"],
        "step_s": seconds,
        "data_wait_share": statistics.median(line["data_wait_s"] for line in steps) / seconds,
        "peak_memory_gib": max(line["peak_memory_bytes"] for line in steps) / 1024**3,
    }
    if "mfu" in steps[0]:
        result["mfu"] = statistics.median(line["mfu"] for line in steps)
    return result


def measure_and_print(arguments: argparse.Namespace) -> None:
    """Make data and model in a temporary folder, train, print the figures."""
    with tempfile.TemporaryDirectory(prefix="vlm-benchmark-") as folder:
        root = Path(folder)
        make_images(root / "raw", arguments.micro_batch * arguments.accumulation * 4)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        write_random_base(root / "base", arguments.shape, dtype=DTYPES[arguments.dtype], device=device)
        config_file = run_config(arguments, root)
        try:
            with contextlib.redirect_stdout(sys.stderr):  # stdout has only the figures
                build.main(["--config", str(config_file)])
                if arguments.against_transformers:
                    measured = compare_with_transformers(config_file, arguments.rounds)
                else:
                    measured = measure(config_file)
        except UserError as error:
            exit_on_user_error(error)
    result = {"shape": arguments.shape, "mode": arguments.mode, "micro_batch": arguments.micro_batch, **measured}
    if emit_json(arguments.json, result):
        return
    for name, value in result.items():
        if name != "sides":
            print(f"{name:<52}{value:.4g}" if isinstance(value, float) else f"{name:<52}{value}")
    for side, figures in result.get("sides", {}).items():
        print(f"{side}: " + ", ".join(f"{name} {value:.4g}" for name, value in figures.items()))
