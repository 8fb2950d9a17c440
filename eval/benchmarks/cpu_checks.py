"""The CPU benchmarks: their commands, the figures read from their results, and the goals."""

import argparse
import json
import operator
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

from configs.command_line import emit_json, exit_on_user_error
from configs.errors import ConfigError, UserError
from data_prep.benchmarks import shards
from eval.benchmarks import class_scoring_speed, generation_speed
from train.benchmarks import pixel_rates

ROOT = Path(__file__).resolve().parents[2]
Result = Any
"""What a program wrote as JSON."""
SIGNS: dict[str, Callable[[float, float], bool]] = {
    ">=": lambda value, goal: value >= goal,
    "<=": lambda value, goal: value <= goal,
    "=": lambda value, goal: value == goal,
}


@dataclass(frozen=True)
class Check:
    """One figure of a program's result and its goal, such as `>= 30`."""

    title: str
    figure: Callable[[Result], float]
    sign: str
    goal: float


@dataclass(frozen=True)
class Program:
    """A benchmark, its arguments, and what is checked of its result."""

    module: str
    arguments: tuple[str, ...]
    checks: tuple[Check, ...]


def at(*keys: str) -> Callable[[Result], float]:
    """The figure at `keys` of a result."""
    return lambda result: float(reduce(operator.getitem, keys, result))


SCORING = class_scoring_speed.GOALS
CHECKPOINTED = "transformers with activation checkpointing"
PROGRAMS = {
    "training": Program(
        "train.benchmarks.training",
        ("--shape", "7b-proportions", "--dtype", "fp32", "--micro-batch", "2", "--against-transformers"),
        (
            Check(
                "projector step, operations / transformers' with checkpoints", at(f"flops / {CHECKPOINTED}"), "<=", 0.64
            ),
            Check("the same, CPU time", at(f"seconds / {CHECKPOINTED}"), "<=", 0.68),
            Check("projector step, operations / transformers'", at("flops / transformers"), "<=", 0.88),
            Check("relative error of its gradients", at("sides", "ours", "gradient_error"), "<=", 1e-5),
        ),
    ),
    "class-scoring": Program(
        "eval.benchmarks.class_scoring",
        (),
        (
            Check(
                "1,000 names scored, authors' loop / ours", at("speed", "fp32", "loop_over_ours"), ">=", SCORING["loop"]
            ),
            Check(
                "1,000 names scored, one forward pass a name / ours",
                at("speed", "fp32", "full_over_ours"),
                ">=",
                SCORING["full"],
            ),
            Check("largest difference of a log-probability", at("speed", "fp32", "largest_difference"), "<=", 1e-4),
            Check("tokens behind the prompt, ImageNet", at("tokens", "imagenet", "behind_prefix"), "=", 1866),
            Check("tokens behind the prompt, Stanford Cars", at("tokens", "stanford_cars", "behind_prefix"), "=", 995),
            Check("best name alone, share of nodes, sum", at("top1", "sum", "share"), "<=", SCORING["sum"]),
            Check("best name alone, share of nodes, guidance", at("top1", "cfg", "share"), "<=", SCORING["cfg"]),
            Check(
                "best names that are those of the full scores, 3 rules",
                lambda r: sum(r["top1"][rule]["equal"] for rule in class_scoring_speed.RULES),
                "=",
                3,
            ),
        ),
    ),
    "generation": Program(
        "eval.benchmarks.generation",
        (),
        (
            Check(
                "open-ended answers, time / transformers' generate", at("open", "ratio"), "<=", generation_speed.GOAL
            ),
            Check(
                "row-steps / those needed", lambda r: r["open"]["row_steps"] / r["open"]["row_steps_needed"], "<=", 1.05
            ),
            Check(
                "kinds of answers with the same tokens",
                lambda r: sum(r[kind]["same_tokens"] for kind in generation_speed.ANSWERS),
                "=",
                2,
            ),
        ),
    ),
    "pixels": Program(
        "train.benchmarks.pixels",
        (),
        (
            Check("images to exact pixels / transformers'", at("exact_ratio"), ">=", pixel_rates.GOALS["exact"]),
            Check(
                "largest difference of an exact pixel",
                at("exact_largest_difference"),
                "<=",
                pixel_rates.TOLERANCE["exact"],
            ),
            Check("images to fast pixels / transformers'", at("fast_ratio"), ">=", pixel_rates.GOALS["fast"]),
            Check(
                "largest difference of a fast pixel", at("fast_largest_difference"), "<=", pixel_rates.TOLERANCE["fast"]
            ),
        ),
    ),
    "order": Program(
        "train.benchmarks.order",
        (),
        (
            Check("plan of an epoch of 1.9 M samples, CPU seconds", at("plan", "total_cpu_s"), "<=", 15),
            Check("its peak memory, GB", at("plan", "peak_memory_gb"), "<=", 1.5),
            Check("first step of a resumed run, CPU seconds", at("resume", "resume_cpu_s"), "<=", 2),
            Check("processed / real tokens, packed", at("padding_batch_8", "packed"), "<=", 1.02),
            Check("processed / real tokens, LLaVA's sampler", at("padding_batch_8", "llava"), ">=", 1.4),
        ),
    ),
    "shards": Program(
        "data_prep.benchmarks.shards",
        ("all",),
        tuple(
            Check(
                f"shards, {what} of {case.name} images",
                at(f"{what} {case.name}", f"{key}_ratio"),
                ">=",
                shards.GOALS[key],
            )
            for what, key in (("build", "build"), ("scale", "two_processes"), ("read", "read"))
            for case in shards.CASES
        ),
    ),
}


def rows_of(program: Program, result: Result) -> list[dict[str, Any]]:
    """Figure, goal and whether it is met, of each check."""
    rows = []
    for check in program.checks:
        value = float(check.figure(result))
        goal = {"goal": check.goal, "sign": check.sign, "met": SIGNS[check.sign](value, check.goal)}
        rows.append({"title": check.title, "figure": value, **goal})
    return rows


def run(name: str, tokenizer: str | None) -> list[dict[str, Any]]:
    """The rows of one program; one row with its `error` where it fails."""
    program = PROGRAMS[name]
    extra = ("--tokenizer", tokenizer) if tokenizer and name == "class-scoring" else ()
    with tempfile.TemporaryDirectory(prefix="vlm-figures-") as folder:
        output = Path(folder) / "figures.json"
        command = [sys.executable, "-m", program.module, *program.arguments, *extra, "--json", str(output)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        if not output.is_file():  # a missed goal has exit code 1 as well
            lines = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()
            return [{"title": program.module, "error": f"exit code {done.returncode}: {lines[-1]}", "met": False}]
        return rows_of(program, json.loads(output.read_text(encoding="utf-8")))


def as_text(rows: Sequence[dict[str, Any]]) -> str:
    """A table of the rows."""
    width = max(len(row["title"]) for row in rows) + 2
    lines = [f"{'':<{width}}{'figure':>12}{'goal':>12}"]
    for row in rows:
        if "error" in row:
            lines.append(f"{row['title']:<{width}}FAILED with {row['error']}")
            continue
        goal = f"{row['sign']} {row['goal']:.4g}"
        lines.append(f"{row['title']:<{width}}{row['figure']:>12.4g}{goal:>12}  {'met' if row['met'] else 'MISSED'}")
    missed = sum(not row["met"] for row in rows)
    return "\n".join([*lines, f"{len(rows) - missed} of {len(rows)} goals met"])


def run_and_print(arguments: argparse.Namespace) -> None:
    """Run and print. Exits with 1 if a goal is missed, with 2 on a mistake in the arguments."""
    names = [name.strip() for name in arguments.only.split(",")] if arguments.only else list(PROGRAMS)
    try:
        if unknown := [name for name in names if name not in PROGRAMS]:
            raise ConfigError(f"--only has {', '.join(unknown)}; programs are {', '.join(PROGRAMS)}")
    except UserError as error:
        exit_on_user_error(error)
    load, began, rows = os.getloadavg()[0], time.monotonic(), list[dict[str, Any]]()
    for name in names:
        print(f"{name} ...", file=sys.stderr, flush=True)
        rows += [{"program": name, **row} for row in run(name, arguments.tokenizer)]
    taken = time.monotonic() - began
    if not emit_json(arguments.json, {"load_before": load, "seconds": taken, "rows": rows}):
        print(as_text(rows))
        print(f"{taken:.0f} s; load average before: {load:.1f}")
    raise SystemExit(0 if all(row["met"] for row in rows) else 1)
