"""Operations, waits and time of an optimizer update, next to DeepSpeed's."""

import argparse
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from configs.command_line import emit_json
from data_prep.benchmarks.timing import cpu_seconds
from train.distributed.world import start_world, stop_world
from train.optimization.fused_update import fuse_update, total_norm
from train.optimization.gated_adamw import GatedAdamW

SETTINGS: dict[str, Any] = {"lr": 1e-4, "weight_decay": 0.01}
CLIP_NORM = 1.0
WAITS = ("aten::_local_scalar_dense", "aten::is_nonzero", "aten::nonzero")


class OperationCount(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the operations dispatched inside it, and those of them that wait for a GPU."""

    def __init__(self) -> None:
        """Nothing is counted yet."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations = 0
        self.waits = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count `func` and run it."""
        if func.namespace != "profiler":
            self.operations += 1
            self.waits += func._schema.name in WAITS
        return func(*args, **(kwargs or {}))


@dataclass(frozen=True)
class Side:
    """An optimizer as DeepSpeed holds it, its bf16 weights, and a step on their gradients."""

    weights: list[torch.nn.Parameter]
    step: Callable[[], object]


def random_weights(parameters: int, elements: int, device: str) -> list[torch.nn.Parameter]:
    """As many bf16 weights of that size each, the same at every call."""
    torch.manual_seed(0)
    return [torch.nn.Parameter(torch.randn(elements, device=device).to(torch.bfloat16)) for _ in range(parameters)]


def deepspeeds(weights: list[torch.nn.Parameter]) -> Side:
    """DeepSpeed's step as it is."""
    optimizer = _wrapped(torch.optim.AdamW(weights, foreach=False, fused=False, **SETTINGS))
    return Side(weights, optimizer.step)


def ours(weights: list[torch.nn.Parameter]) -> Side:
    """The step of `train.optimization.engine` in bf16 without ZeRO, reading norm and update size included."""
    adamw = GatedAdamW(weights, measure=True, **SETTINGS)  # type: ignore[arg-type]
    optimizer, norm = _wrapped(adamw), [0.0]
    fuse_update(None, optimizer, 0, lambda: norm[0])
    adamw.gate.norm = lambda: norm[0]

    def step() -> None:
        norm[0] = float(total_norm(weight.grad for weight in weights if weight.grad is not None))
        adamw.gate.prepare(math.inf)
        optimizer.step()
        adamw.take_squares()

    return Side(weights, step)


def _wrapped(adamw: torch.optim.AdamW) -> Any:
    from deepspeed.runtime.fp16.unfused_optimizer import FP16_UnfusedOptimizer

    return FP16_UnfusedOptimizer(
        adamw, low_precision_dtype=torch.bfloat16, clip_grad=CLIP_NORM, verbose=False
    )  # its other arguments are for fp16


def give_gradients(side: Side, seed: int) -> None:
    """The same gradients to any side of the same shape."""
    generator = torch.Generator(side.weights[0].device).manual_seed(seed)
    for weight in side.weights:
        weight.grad = torch.randn(weight.shape, device=weight.device, generator=generator).to(weight.dtype)


def count(side: Side) -> OperationCount:
    """What one step dispatches."""
    give_gradients(side, 0)
    counted = OperationCount()
    with counted:
        side.step()
    return counted


def seconds(side: Side, seed: int) -> tuple[float, float]:
    """CPU seconds and seconds of the clock of one step."""
    give_gradients(side, seed)
    on_gpu = side.weights[0].is_cuda
    if on_gpu:
        torch.cuda.synchronize()
    cpu, clock = cpu_seconds(), time.perf_counter()
    side.step()
    if on_gpu:
        torch.cuda.synchronize()
    return cpu_seconds() - cpu, time.perf_counter() - clock


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Both sides in turns."""
    shape = (arguments.parameters, arguments.elements, arguments.device)
    sides = {"deepspeed": deepspeeds(random_weights(*shape)), "ours": ours(random_weights(*shape))}
    counts = {name: count(side) for name, side in sides.items()}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for repeat in range(arguments.repeats + 1):  # the first warms up
        for name, side in sides.items():
            measured = seconds(side, repeat)
            times[name] += [measured] if repeat else []
    found: dict[str, Any] = {"parameters": arguments.parameters, "elements": arguments.elements}
    found |= {"device": arguments.device, "torch": torch.__version__}
    for name, runs in times.items():
        found[name] = {
            "operations": counts[name].operations,
            "waits": counts[name].waits,
            "cpu_seconds": min(cpu for cpu, _ in runs),
            "seconds": statistics.median(clock for _, clock in runs),
        }
    keys = ("operations", "cpu_seconds", "seconds")
    found["deepspeed_over_ours"] = {key: found["deepspeed"][key] / found["ours"][key] for key in keys}
    return found


def measure_and_print(arguments: argparse.Namespace) -> None:
    """Measure and print."""
    if arguments.device == "cpu":
        torch.set_num_threads(1)
    start_world()
    found = measure(arguments)
    stop_world()
    if emit_json(arguments.json, found):
        return
    print(f"{'':<12}{'operations':>12}{'waits':>8}{'CPU s':>10}{'s':>10}")
    for name in ("deepspeed", "ours"):
        row = found[name]
        line = f"{row['operations']:>12,}{row['waits']:>8,}{row['cpu_seconds']:>10.4f}{row['seconds']:>10.4f}"
        print(f"{name:<12}{line}")
    print("ratio       ", ", ".join(f"{key} {value:.1f}" for key, value in found["deepspeed_over_ours"].items()))
