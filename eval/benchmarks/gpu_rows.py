"""The rows of the GPU benchmark: what each measures, and their table."""

import argparse
import contextlib
import importlib.metadata
import json
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import torch

from configs.command_line import STDOUT, exit_on_user_error
from configs.errors import ConfigError, UserError
from eval.benchmarks.budgeted_rows import Figures, Ratio, Row, matrix_product_rate, run_rows
from eval.benchmarks.class_rates import imagenet_tokens
from eval.benchmarks.rates import ANSWER, RateOptions, measured_rates
from eval.models.class_likelihood.tree_forward import scoring_attention
from train.benchmarks.gpu_training import WARMUP, TrainingBench, TrainingOptions
from train.distributed.world import World, start_world, stop_world
from train.models.llava import LlavaFamily
from train.models.loading import resolve_attention
from train.toy.random_models import random_model

GOALS = {"projector": 36.0, "lora": 22.0, "scoring": 15.0, "top1": 40.0, "greedy": 60.0}  # images/s, 7B on one H200
RATIOS = (
    Ratio("projector", "transformers-checkpointing", "images_per_s", 2.2),
    Ratio("projector", "transformers", "images_per_s", 1.55),
    Ratio("packed", "projector", "tokens_per_s", 0.93),
    Ratio("greedy", "generate", "images_per_s", 4.0),
)
PACKAGES = ("torch", "transformers", "deepspeed", "triton", "flash-attn", "liger-kernel", "peft")
SMALL = TrainingOptions(micro_batch=4, lora_batch=2, lora_rank=4, steps=2, workers=0)
RUNS = 3  # of each evaluation row, after one that chooses kernels


def training_rows(bench: TrainingBench) -> list[Row]:
    """Rows of training; the costs are counted for their batches."""
    size, steps = bench.options, WARMUP + bench.options.steps
    plain = steps * bench.flops("projector", size.micro_batch)
    batch = f"micro-batch {size.micro_batch}"

    def projector(kernels: str, fixed: float) -> Row:
        name = "projector" if kernels == "auto" else f"projector-{kernels}"
        title = f"projector only, kernels {kernels}, {batch}"
        return Row(name, title, lambda: bench.projector(kernels), plain, fixed_seconds=fixed)

    lora = steps * bench.flops("lora", size.lora_batch)
    title = f"LoRA of rank {size.lora_rank} and projector, micro-batch {size.lora_batch}"
    theirs: list[tuple[str, str, bool]] = [
        ("transformers-checkpointing", f"transformers, projector only, activation checkpointing, {batch}", True),
        ("transformers", f"transformers, projector only, {batch}", False),
    ]
    return [
        projector("auto", 20),
        *(
            Row(name, text, lambda on=on: bench.transformers(checkpointing=on), plain * (1.4 if on else 1))  # type: ignore[misc]
            for name, text, on in theirs
        ),
        Row("lora", title, bench.lora, lora, 0.2, 25),
        Row("packed", "projector only, packed rows of the mixture's lengths", bench.packed, plain * 1.2, 0.3, 10),
        *(projector(kernels, 15) for kernels in ("compile", "liger", "none") if kernels != bench.kernels("auto")),
    ]


def evaluation_rows(model: Any, family: LlavaFamily, forward: float, *, small: bool) -> list[Row]:
    """Rows of evaluation; `forward` is the cost of one image's prompt."""
    names = imagenet_tokens(None, family.text_config.vocab_size)
    score, answer = (2, 4) if small else (8, 64)

    def row(way: str, title: str, batch: int, cost: float) -> Row:
        options = RateOptions(batches=(batch,), ways=(way,), runs=RUNS)

        def measure() -> Figures:
            kernel = model.config._attn_implementation
            if way in ("scoring", "top1"):  # flash-attn takes no tree mask
                device, dtype = model.device.type, "bf16" if model.dtype == torch.bfloat16 else "fp32"
                model.set_attn_implementation(scoring_attention("auto", device, dtype))
            try:
                (rate,) = measured_rates(model, family, names, options)
            finally:
                model.set_attn_implementation(kernel)
            if "error" in rate:
                raise torch.OutOfMemoryError(rate["error"])
            figures = {"images_per_s": rate.pop("images_per_second"), "step_s": rate.pop("seconds")}
            return figures | {key: value for key, value in rate.items() if key not in ("way", "peak_gib")}

        return Row(way, f"{title}, {batch} at a time", measure, (1 + RUNS) * batch * cost * forward, 0.3, 5)

    return [
        row("scoring", f"all {len(names):,} names scored", score, 5),
        row("top1", "only the best name", score, 1.5),
        row("greedy", f"greedy answers of {ANSWER} tokens", answer, 1.2),
        row("generate", f"transformers' generate, {ANSWER} tokens", score, 2),
    ]


def all_rows(model: Any, world: World, options: TrainingOptions, *, small: bool) -> list[Row]:
    """The most important first."""
    family = LlavaFamily(model.config)
    bench = TrainingBench(model, family, world, options)
    training = training_rows(bench)
    evaluation = evaluation_rows(model, family, bench.flops("projector") / 2, small=small)
    first = [row for row in training if not row.name.startswith("projector-")]
    return [*first, *evaluation, *(row for row in training if row not in first)]


def machine(device: torch.device, model: Any, rate: float) -> Figures:
    """What the figures depend on."""
    gpu = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name() if gpu else f"CPU, {torch.get_num_threads()} threads",
        "memory_gib": torch.cuda.get_device_properties(0).total_memory / 2**30 if gpu else None,
        "python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
        "date": datetime.now(UTC).date().isoformat(),
        "dtype": str(model.dtype).removeprefix("torch."),
        "attention": model.config._attn_implementation,
        "product_tflop_per_s": rate / 1e12,
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def table(results: Sequence[Figures], shape: str, *, markdown: bool) -> str:
    """The results as a table, in text or Markdown, with goals where they are for this shape."""
    heads = ("", "images/s", "goal", "ms a step", "MFU", "peak GiB")
    lines: list[tuple[str, ...]] = []
    missing: list[str] = []
    for row in results:
        if why := row.get("left_out") or row.get("error"):
            missing.append(f"{'Left out' if 'left_out' in row else 'Failed'}: {row['title']}: {why}.")
            continue
        goal = f"{GOALS[row['row']]:g}" if shape == "llava-1.5-7b" and row["row"] in GOALS else ""
        figures = f"{row['images_per_s']:.1f}", goal, f"{row['step_s'] * 1000:.0f}"
        mfu, peak = (
            (f"{row['mfu']:.1%}" if "mfu" in row else ""),
            (f"{row['peak_gib']:.1f}" if "peak_gib" in row else ""),
        )
        lines.append((row["title"], *figures, mfu, peak))
    for ratio in RATIOS:
        if (value := ratio.of(results)) is not None:
            goal = f"{ratio.goal:g}" if shape == "llava-1.5-7b" else ""
            lines.append((f"{ratio.above} / {ratio.below}, {ratio.figure}", f"{value:.2f}", goal, "", "", ""))
    if markdown:
        rule = "| --- |" + " ---: |" * (len(heads) - 1)
        rows = [f"| {' | '.join(heads)} |", rule, *(f"| {' | '.join(line)} |" for line in lines)]
        return "\n".join([*rows, "", *missing]).rstrip()
    width = max(len(line[0]) for line in (heads, *lines)) + 2
    rows = [f"{first:<{width}}" + "".join(f"{cell:>10}" for cell in rest) for first, *rest in (heads, *lines)]
    return "\n".join([*rows, *missing])


def measure(arguments: argparse.Namespace, write: Callable[[Figures], None]) -> list[Figures]:
    """Make the model, run the rows. Raises `ConfigError` for an unknown row, or a large shape without a GPU."""
    small = arguments.shape == "tiny"
    if not small and not torch.cuda.is_available():
        raise ConfigError(f"shape {arguments.shape} needs a GPU, and PyTorch finds none; use --shape tiny on a CPU")
    world = start_world()
    try:
        began = time.monotonic()
        gpu = world.device.type == "cuda"
        dtype = torch.bfloat16 if gpu else torch.float32
        model = random_model(arguments.shape, dtype, device=str(world.device))
        model.set_attn_implementation(resolve_attention("auto", world.device.type, "bf16" if gpu else "fp32"))
        rate = matrix_product_rate(world.device, dtype)
        options = (
            SMALL if small else TrainingOptions(arguments.micro_batch, arguments.lora_batch, workers=arguments.workers)
        )
        rows = all_rows(model, world, options, small=small)
        rows = chosen_rows(rows, arguments.rows)
        seen = machine(world.device, model, rate)
        write({"shape": arguments.shape, **seen, "budget_s": arguments.budget, "start_s": time.monotonic() - began})
        return run_rows(rows, RATIOS, arguments.budget, rate, write)
    finally:
        stop_world()


def chosen_rows(rows: Sequence[Row], names: str | None) -> list[Row]:
    """The rows with these names, separated by commas, in the order of `rows`. Raises `ConfigError` for another one."""
    wanted = [name.strip() for name in names.split(",")] if names else [row.name for row in rows]
    known = [row.name for row in rows]
    if unknown := [name for name in wanted if name not in known]:
        raise ConfigError(f"--rows has {', '.join(unknown)}; rows are {', '.join(known)}")
    return [row for row in rows if row.name in wanted]


@contextlib.contextmanager
def _lines(target: Path | None) -> Iterator[Callable[[Figures], None]]:
    """What writes a result as a JSON line to `target`, and else as text to stderr; nothing is held back."""
    output: IO[str] | None = None
    if target is not None:
        output = sys.stdout if target == STDOUT else target.open("w", encoding="utf-8")

    def write(found: Figures) -> None:
        if output is not None:
            print(json.dumps(found), file=output, flush=True)
        name = found.get("row") or found.get("ratio") or "machine"
        figures = (
            f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in found.items()
        )
        print(
            f"{name}: " + ", ".join(part for part in figures if not part.startswith(("row ", "ratio "))),
            file=sys.stderr,
        )

    try:
        yield write
    finally:
        if output is not None and output is not sys.stdout:
            output.close()


def measure_and_print(arguments: argparse.Namespace) -> None:
    """Measure and print. Exits with code 2 on a mistake in the arguments."""
    try:
        with _lines(arguments.json) as write, contextlib.redirect_stdout(sys.stderr):  # stdout has only the results
            results = measure(arguments, write)
    except UserError as error:
        exit_on_user_error(error)
    if arguments.json != STDOUT:
        print(table(results, arguments.shape, markdown=arguments.markdown))
