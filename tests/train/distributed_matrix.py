"""Run by `deepspeed --num_gpus 2`: all cells of the distributed matrix in one pair of ranks. Writes one JSON file.

deepspeed --num_gpus 2 tests/train/distributed_matrix.py RUN_CONFIG OUTPUT.json
"""

import copy
import gc
import json
import sys
from functools import cache
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[2])

import torch

from configs.load import load_config
from configs.run import RunConfig
from train.data.collate import collate, pack
from train.data.order import PADDING, EpochOrder
from train.distributed.world import World, start_world, stop_world
from train.loss import local_denominator, set_loss_weights
from train.models.batch import Batch
from train.models.linear_probe import attach_probe
from train.models.loading import load_model
from train.models.loss_module import LossModule
from train.models.param_groups import choose_trainable
from train.models.pissa import principal_matrices, start_from
from train.models.target_states import ForwardOptions
from train.optimization.engine import Engine
from train.plan import RunPlan, make_plan
from train.probe_loss import local_probe_denominator, set_probe_weights

PROBE = ("loss.probe=0.5", "optim.lr_probe=1e-2", "chat.max_length=120", "train.token_budget=120")
STEPS = 4
SAVED = 2


@cache
def base_model(folder: Path, dtype: str) -> Any:
    """The base, which many cells begin with: read once, and copied by each."""
    return load_model(str(folder), None, dtype, "sdpa").model


def make_engine(plan: RunPlan, world: World, lora_std: float = 0.0) -> Engine:
    """An engine of the plan's base; `lora_std` starts LoRA's B elsewhere than at 0, where its A gets no gradient."""
    config = plan.config
    model = copy.deepcopy(base_model(plan.folder, config.model.dtype))
    torch.manual_seed(config.seed)
    choose_trainable(model, plan.family, config.model, config.optim, config.deepspeed.zero_stage)
    if config.model.lora.variant == "pissa":
        start_from(model, principal_matrices(model, config.model.lora), config.model.lora)
    for name, parameter in model.named_parameters():
        if lora_std and "lora_B" in name:
            torch.nn.init.normal_(parameter, std=lora_std)
    if plan.probe_classes is not None:
        attach_probe(model, plan.family, len(plan.probe_classes.names), config.seed)
    return Engine(LossModule(model, plan.family), plan.deepspeed, config.optim, world)


def weighted_batches(plan: RunPlan, world: World, positions: list[int], prefix: tuple[int, ...] = ()) -> list[Batch]:
    """This rank's micro-batches of one step."""
    examples = plan.training_batches().examples
    partitioner = plan.order.partitioner
    join = pack if partitioner.batching == "packed" else collate
    batches = [
        join([examples[p] for p in micro_batch], plan.family, prefix)
        for micro_batch in partitioner.of_rank(positions, world.rank)
    ]
    reduction = plan.config.loss.reduction
    denominator = int(world.all_sum([local_denominator(batches, reduction)])[0])
    classes = world.all_sum([local_probe_denominator(batches)])[0]
    for batch in batches:
        set_loss_weights(batch, reduction, denominator, world.size * plan.batches.accumulation)
        set_probe_weights(batch, plan.config.loss.probe, classes, world.size * plan.batches.accumulation)
    return batches


def run_step(engine: Engine, plan: RunPlan, world: World, positions: list[int], step: int) -> tuple[str, str]:
    """One update on the samples at `positions`; returns global loss and gradient norm as hex."""
    torch.manual_seed(1000 * step + world.rank)
    loss = engine.accumulate(weighted_batches(plan, world, positions)).contribution
    return world.all_sum([loss])[0].hex(), engine.update(1.0).grad_norm.hex()


def resume_cell(config_file: Path, world: World, stage: int, dtype: str, mode: str) -> dict[str, object]:
    """Losses and norms of four steps, and of the last two again from the state saved after the second."""
    overrides = [f"deepspeed.zero_stage={stage}", f"model.dtype={dtype}", f"model.mode={mode}"]
    plan = make_plan(load_config(RunConfig, config_file, overrides)[0], world.size, "cpu")
    order = EpochOrder.of(plan.order.mixture, 0, 0)
    engine = make_engine(plan, world)
    straight, saved = [], None
    for step in range(STEPS):
        if step == SAVED:
            saved = list(engine.state.read())
        straight.append(run_step(engine, plan, world, order.step(step, 8), step))
    assert saved is not None
    restored = make_engine(plan, world)
    restored.state.write(iter(saved), SAVED)
    again = [run_step(restored, plan, world, order.step(step, 8), step) for step in range(SAVED, STEPS)]
    return {"straight": straight, "resumed": again}


def split_cell(config_file: Path, world: World, stage: int, micro_batch: int, reduction: str) -> dict[str, object]:
    """Loss, norm and trained weights after two steps whose images all lie with one rank's micro-batches."""
    overrides = [
        f"deepspeed.zero_stage={stage}",
        f"train.micro_batch={micro_batch}",
        f"loss.reduction={reduction}",
    ]
    plan = make_plan(load_config(RunConfig, config_file, overrides)[0], world.size, "cpu")
    engine = make_engine(plan, world)
    seen = [run_step(engine, plan, world, positions, step) for step, positions in enumerate(lopsided(plan))]
    weights = {state.name: state.master.flatten().tolist() for state in engine.state.read()}
    return {"seen": seen, "weights": weights}


def probe_cell(config_file: Path, world: World, stage: int, batching: str) -> dict[str, object]:
    """The same two steps with a linear probe, of whose classes one rank has none; and the second one resumed."""
    overrides = [f"deepspeed.zero_stage={stage}", f"train.batching={batching}", *PROBE]
    plan = make_plan(load_config(RunConfig, config_file, overrides)[0], world.size, "cpu")
    plan.deepspeed["zero_optimization"]["stage3_param_persistence_threshold"] = 0  # even the token is split
    first, second = lopsided(plan)
    engine = make_engine(plan, world)
    seen = [run_step(engine, plan, world, first, 0)]
    saved = list(engine.state.read())
    seen.append(run_step(engine, plan, world, second, 1))
    restored = make_engine(plan, world)
    restored.state.write(iter(saved), 1)
    weights = {state.name: state.master.flatten().tolist() for state in engine.state.read()}
    return {"seen": seen, "weights": weights, "resumed": run_step(restored, plan, world, second, 1)}


def bucket_cell(config_file: Path, world: World, stage: int, overlap: bool) -> dict[str, object]:
    """The same two steps with the chosen bucket, or with many small ones that are reduced during the backward pass."""
    base = config_file.with_name("buckets.json")
    if world.is_main_process:
        sizes = {"reduce_bucket_size": 400, "allgather_bucket_size": 400, "overlap_comm": True}
        base.write_text(json.dumps({"zero_optimization": sizes}))
    world.barrier()
    overrides = [f"deepspeed.zero_stage={stage}", "model.mode=lora", "model.lora.dropout=0"]
    overrides += [f"deepspeed.base={base}"] * overlap
    plan = make_plan(load_config(RunConfig, config_file, overrides)[0], world.size, "cpu")
    engine = make_engine(plan, world)
    seen = [run_step(engine, plan, world, positions, step) for step, positions in enumerate(lopsided(plan))]
    weights = {state.name: state.master.flatten().tolist() for state in engine.state.read()}
    settings = engine.engine.zero_reduce_bucket_size(), engine.engine.zero_overlap_comm()
    return {"seen": seen, "weights": weights, "settings": settings, "trained": engine.state.size}


def packed_cell(config_file: Path, world: World, stage: int, mode: str, batching: str) -> dict[str, object]:
    """The same two steps with another batching; packed, the second has more micro-batches than the first."""
    overrides = [f"deepspeed.zero_stage={stage}", f"model.mode={mode}", "model.lora.dropout=0"]
    overrides += [f"train.batching={batching}", "chat.max_length=120", "train.token_budget=120"]
    plan = make_plan(load_config(RunConfig, config_file, overrides)[0], world.size, "cpu")
    batches = lopsided(plan)
    batches[0] = batches[0][:2] + [PADDING] * 6
    engine = make_engine(plan, world)
    seen = [run_step(engine, plan, world, positions, step) for step, positions in enumerate(batches)]
    weights = {state.name: state.master.flatten().tolist() for state in engine.state.read()}
    counts = [len(plan.order.partitioner.of_rank(positions, world.rank)) for positions in batches]
    return {"seen": seen, "weights": weights, "micro_batches": counts}


def savings_cell(config_file: Path, world: World, stage: int, mode: str) -> dict[str, dict[str, list[float]]]:
    """By batching: what `model.skip_unneeded_compute` changes in gradients and norms, and the smallest gradient.

    Weights never change: all updates are at 0 times the rates. A gradient is read from the first moment that it moves.
    """
    overrides = [f"deepspeed.zero_stage={stage}", f"model.mode={mode}", "model.lora.dropout=0"]
    overrides += ["chat.system_prompt=vicuna_v1", "chat.max_length=150", "train.token_budget=150"]
    plans = {
        batching: make_plan(
            load_config(RunConfig, config_file, [*overrides, f"train.batching={batching}"])[0], 2, "cpu"
        )
        for batching in ("padded", "grouped", "packed")
    }
    engine = make_engine(plans["padded"], world, lora_std=0.05)
    prefix = plans["padded"].example_builder.prefix
    images, mixed = lopsided(plans["padded"])
    moments: dict[str, torch.Tensor] = {}

    def gradients(plan: RunPlan, positions: list[int], skips: bool) -> tuple[dict[str, torch.Tensor], float]:
        nonlocal moments
        engine.module.states.options = ForwardOptions(prefix, skips)
        batches = weighted_batches(plan, world, positions, prefix)
        assert engine.module.states.runs_own_decoder_loop(packed=batches[0].packed) == skips
        assert all(batch.shared_prefix for batch in batches if max(batch.sources) >= 0), "the prompt's keys are reused"
        engine.accumulate(batches)
        norm, decay = engine.update(0.0).grad_norm, plan.config.optim.betas[0]
        before, moments = moments, {state.name: state.moments["exp_avg"].double() for state in engine.state.read()}
        return {name: (now - decay * before.get(name, 0 * now)) / (1 - decay) for name, now in moments.items()}, norm

    found: dict[str, dict[str, list[float]]] = {}
    for batching, plan in plans.items():
        row = found.setdefault(batching, {"gradients": [], "norms": [], "smallest": []})
        for positions in (images, [mixed[k] for k in (0, 2, 1, 3, 4, 6, 5, 7)]):  # text only on rank 1, then on both
            (whole, norm), (ours, our_norm) = (gradients(plan, positions, skips) for skips in (False, True))
            row["gradients"] += [float((ours[n] - whole[n]).norm() / whole[n].norm()) for n in whole]
            row["smallest"] += [min(float(gradient.norm()) for gradient in whole.values())]
            row["norms"] += [abs(our_norm - norm) / norm]
    return found


def lopsided(plan: RunPlan) -> list[list[int]]:
    """Two global batches of 8 in which the odd places (rank 1's) are text-only and the even ones have images."""
    with_image, text_only = [], []
    for position in range(len(plan.sources)):
        (text_only if plan.sources.sample(position).image is None else with_image).append(position)
    assert len(text_only) >= 2, "the mixture has text-only records"
    batches = []
    for step in range(2):
        images, texts = with_image[step * 4 : step * 4 + 4], [text_only[i % len(text_only)] for i in range(4)]
        batches.append([p for pair in zip(images, texts, strict=True) for p in pair])
    return batches


def main() -> None:
    config_file, output = Path(sys.argv[-2]), Path(sys.argv[-1])
    world = start_world()
    gc.freeze()  # DeepSpeed collects garbage for every engine in ZeRO 3: imported modules are none
    results: dict[str, object] = {"lopsided": lopsided(make_plan(load_config(RunConfig, config_file)[0], 1, "cpu"))}
    for mode in ("projector", "lora"):
        for dtype in ("fp32", "bf16"):
            for stage in (0, 1, 2, 3):
                results[f"resume {mode} {dtype} zero-{stage}"] = resume_cell(config_file, world, stage, dtype, mode)
    for stage in (0, 2, 3):
        for micro_batch in (4, 2):
            results[f"split zero-{stage} micro-{micro_batch} token"] = split_cell(
                config_file, world, stage, micro_batch, "token"
            )
    for reduction in ("sample", "micro_batch"):
        results[f"split zero-0 micro-2 {reduction}"] = split_cell(config_file, world, 0, 2, reduction)
    for stage in (1, 2, 3):
        for overlap in (False, True):
            results[f"buckets zero-{stage} {overlap}"] = bucket_cell(config_file, world, stage, overlap)
    for mode in ("projector", "lora"):
        for batching, stages in (("padded", (0,)), ("grouped", (0,)), ("packed", (0, 1, 2, 3))):
            for stage in stages:
                results[f"{batching} {mode} zero-{stage}"] = packed_cell(config_file, world, stage, mode, batching)
        for stage in (0, 1, 2, 3):
            results[f"savings {mode} zero-{stage}"] = savings_cell(config_file, world, stage, mode)
    for stage in (0, 3):
        results[f"probe zero-{stage}"] = probe_cell(config_file, world, stage, "padded")
    results["probe packed"] = probe_cell(config_file, world, 2, "packed")
    if world.is_main_process:
        output.write_text(json.dumps(results))
    stop_world()


if __name__ == "__main__":
    main()
