"""One training step's forward and backward against plain transformers, on the same batch, model and device.

Sides: transformers with activation checkpointing (the authors' setting), transformers without, and this project.
FLOPs are counted on all sides by `torch.utils.flop_counter`, which leaves attention out where a kernel is fused on a
CPU. Time is the best of the rounds: CPU seconds of one thread, or seconds of a synchronised GPU.
"""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from configs.load import load_config
from configs.run import RunConfig
from data_prep.benchmarks.timing import cpu_seconds
from train.data.collate import collate
from train.loss import local_denominator, set_loss_weights
from train.models.batch import Batch
from train.models.checkpointing import checkpoint_activations
from train.models.layer_parts import as_written
from train.models.loading import load_model
from train.models.loss_module import LossModule
from train.models.param_groups import choose_trainable
from train.models.square_images import PIXELS
from train.models.target_states import ForwardOptions
from train.plan import RunPlan, make_plan

OURS, PLAIN, CHECKPOINTED = "ours", "transformers", "transformers with activation checkpointing"


def compare_with_transformers(config_file: Path, rounds: int) -> dict[str, Any]:
    """Figures of each side and their ratios for the first micro-batch of a run."""
    config, _ = load_config(RunConfig, config_file)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu":
        torch.set_num_threads(1)
    plan = make_plan(config, 1, device.type)
    batch, model = _batch(plan, device), load_model(str(plan.folder), None, config.model.dtype, "sdpa").model
    choose_trainable(model, plan.family, config.model, config.optim)
    model.to(device).train()
    sides = _sides(plan, model, batch)
    figures = {name: _counted(model, side) for name, side in sides.items()}
    seconds = _best_seconds(model, sides, rounds, device)
    expected = figures[PLAIN].pop("gradients")
    for name, own in figures.items():
        own |= {"seconds": seconds[name]}
        own |= {"gradient_error": _relative_error(own.pop("gradients", expected), expected)}
    ratios = {
        f"{quantity} / {other}": figures[OURS][quantity] / figures[other][quantity]
        for other in (CHECKPOINTED, PLAIN)
        for quantity in ("flops", "seconds")
    }
    tokens = int(batch.lengths().sum()) / len(batch.ids)
    device_name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU, one thread"
    return {"device": device_name, "torch": torch.__version__, "tokens_per_sample": tokens, **ratios, "sides": figures}


def transformers_loss(model: Any, batch: Batch, pixels: torch.Tensor) -> torch.Tensor:
    """The loss of a batch by the model's own forward pass. pixels: (images, 3, S, S), normalized."""
    loss: torch.Tensor = model(
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask,
        pixel_values=pixels,
        labels=batch.labels,
        use_cache=False,
    ).loss
    return loss


def _batch(plan: RunPlan, device: torch.device) -> Batch:
    examples = plan.training_batches().examples
    chosen = [examples[position] for position in range(plan.batches.micro_batch)]
    batch = collate(chosen, plan.family, plan.example_builder.prefix)
    set_loss_weights(batch, "token", local_denominator([batch], "token"), 1.0)
    return batch.to(device)


def _sides(plan: RunPlan, model: Any, batch: Batch) -> dict[str, Callable[[], torch.Tensor]]:
    """Each side's forward pass, to its loss."""
    module = LossModule(model, plan.family, ForwardOptions(plan.example_builder.prefix, kernels=plan.kernels.name))
    pixels = plan.family.normalized(batch.images.tensors[PIXELS], model.dtype)

    def ours() -> torch.Tensor:
        loss: torch.Tensor = module(batch)[0]
        return loss

    def plain() -> torch.Tensor:
        with as_written(model):
            return transformers_loss(model, batch, pixels)

    def checkpointed() -> torch.Tensor:
        checkpoint_activations(model)
        try:
            loss = plain()
            with as_written(model):  # layers run again
                loss.backward()  # type: ignore[no-untyped-call]
        finally:
            model.gradient_checkpointing_disable()
        return loss.detach()

    return {CHECKPOINTED: checkpointed, PLAIN: plain, OURS: ours}


def _step(model: Any, side: Callable[[], torch.Tensor]) -> torch.Tensor:
    model.zero_grad()
    loss = side()
    if loss.requires_grad:
        loss.backward()  # type: ignore[no-untyped-call]
    return loss.detach()


def _counted(model: Any, side: Callable[[], torch.Tensor]) -> dict[str, Any]:
    _step(model, side)  # what is computed once only is not counted
    with FlopCounterMode(display=False) as counter:
        loss = _step(model, side)
    gradients = [p.grad.float().clone() for p in model.parameters() if p.grad is not None]
    return {"loss": float(loss), "flops": float(counter.get_total_flops()), "gradients": gradients}


def _relative_error(gradients: list[torch.Tensor], expected: list[torch.Tensor]) -> float:
    """|g - expected| / |expected| of all trained parameters together."""
    difference = sum(float((own - other).square().sum()) for own, other in zip(gradients, expected, strict=True))
    return math.sqrt(difference / sum(float(other.square().sum()) for other in expected))


def _best_seconds(
    model: Any, sides: dict[str, Callable[[], torch.Tensor]], rounds: int, device: torch.device
) -> dict[str, float]:
    best = dict.fromkeys(sides, float("inf"))
    clock = time.perf_counter if device.type == "cuda" else cpu_seconds
    for _ in range(rounds):
        for name, side in sides.items():
            if device.type == "cuda":
                torch.cuda.synchronize()
            start = clock()
            _step(model, side)
            if device.type == "cuda":
                torch.cuda.synchronize()
            best[name] = min(best[name], clock() - start)
    return best
