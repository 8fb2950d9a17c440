"""From a plan to a trainer: load the model, freeze, wrap it into DeepSpeed, restore a checkpoint."""

import sys
from typing import Any

import torch

from data_prep.progress import print_above_bar
from train.checkpoints.async_checkpointer import AsyncCheckpointer
from train.checkpoints.writing import CheckpointWriter
from train.components import TrainerComponents
from train.distributed.determinism import COST, make_deterministic
from train.distributed.world import World, run_on_main
from train.heldout import HeldOut
from train.kernel_choice import compile_not_repeatable, liger_unused
from train.loggers.console import ConsoleLogger
from train.loggers.jsonl import JsonlLogger
from train.loggers.run_description import describe_run
from train.loggers.tensorboard_logger import TensorBoardLogger
from train.loggers.types import MetricLogger, make_event
from train.loggers.wandb_logger import WandbLogger
from train.loggers.wandb_session import WandbRun
from train.models.checkpointing import checkpoint_activations, checkpoint_mlps
from train.models.linear_probe import attach_probe
from train.models.loading import load_model
from train.models.lora import peft_layers_note
from train.models.loss_module import LossModule
from train.models.param_groups import choose_trainable, count_parts, freeze_table
from train.models.pissa import principal_matrices, read_initial, start_from, write_initial
from train.models.target_states import ForwardOptions
from train.optimization.engine import Engine
from train.optimization.flops import FlopModel
from train.plan import RunPlan
from train.resume import ResumePoint, refuse_other_parameters, require_disk_space, write_run_files
from train.spikes.monitor import SpikeMonitor
from train.spikes.policy import SpikePolicy
from train.trainer import Trainer


def build_trainer(plan: RunPlan, world: World, start: ResumePoint) -> Trainer:
    """A trainer on this rank's device, at the step from which the run starts or continues."""
    trainer = Trainer(plan, world, build_components(plan, world, start), start.identity)
    if start.checkpoint:
        trainer.restore(start.checkpoint)
        trainer.reporter.event(start.step, "resumed", f"from {start.checkpoint.folder.name}")
    return trainer


def build_components(plan: RunPlan, world: World, start: ResumePoint) -> TrainerComponents:
    """Load the model, freeze what is not trained, wrap it into an engine, and open the loggers."""
    config = plan.config
    if config.train.deterministic:  # before the first kernel runs
        make_deterministic()
    loaded = load_model(str(plan.folder), None, config.model.dtype, config.model.attention, world.device.type)
    torch.manual_seed(config.seed)  # the same LoRA initialisation on every rank
    choose_trainable(loaded.model, plan.family, config.model, config.optim, config.deepspeed.zero_stage)
    if plan.probe_classes is not None:
        attach_probe(loaded.model, plan.family, len(plan.probe_classes.names), config.seed)
    if start.checkpoint:
        parameters = loaded.model.named_parameters()
        refuse_other_parameters(start.checkpoint, {name: tuple(p.shape) for name, p in parameters if p.requires_grad})
    if plan.activation_checkpointing is True:
        checkpoint_activations(loaded.model)
    if config.model.mode == "lora" and config.model.lora.variant == "pissa":
        start_from_weights(loaded.model, plan, start)
    counts = count_parts(loaded.model, plan.family, config.optim)
    options = ForwardOptions(
        plan.example_builder.prefix,
        config.model.skip_unneeded_compute,
        config.chat.max_length,
        plan.kernels.name,
        selective_checkpointing=plan.activation_checkpointing == "selective",
        deterministic=config.train.deterministic,
    )
    module = LossModule(loaded.model, plan.family, options)
    why = module.states.why_transformers(packed=plan.packed)
    if why and config.model.kernels == "liger":
        raise liger_unused(why)
    if why and plan.kernels.name == "compile" and config.train.deterministic:
        raise compile_not_repeatable(why)
    if why and options.selective_checkpointing:
        checkpoint_mlps(plan.family.decoder(loaded.model))
    engine = Engine(module, plan.deepspeed, config.optim, world)
    engine.adamw.measure = config.monitor.enabled and config.monitor.update_size
    writer = CheckpointWriter(plan.run, config.checkpoint)
    run_on_main(lambda: require_disk_space(writer, engine.state.nbytes))
    return TrainerComponents(
        open_batches=lambda data_step: plan.training_batches().steps(data_step, world.rank, config.train.workers),
        engine=engine,
        monitor=SpikeMonitor(config.monitor),
        policy=SpikePolicy(config.monitor),
        checkpointer=AsyncCheckpointer(writer, config.checkpoint.asynchronous),
        heldout=HeldOut(plan.heldout_examples(), config.train.heldout_samples, config.seed, plan.batches),
        flops=FlopModel.of(plan.family, counts),
        loggers=run_on_main(lambda: create_loggers(plan, start, freeze_table(counts))) or [],
    )


def start_from_weights(model: Any, plan: RunPlan, start: ResumePoint) -> None:
    """PiSSA's beginning: computed by the main rank and kept in the run's folder, read from there after a resume.

    Raises `RunError` if a rank cannot read it.
    """
    if start.checkpoint is None:
        run_on_main(lambda: write_initial(plan.run, principal_matrices(model, plan.config.model.lora)))
    start_from(model, read_initial(plan.run), plan.config.model.lora)


def create_loggers(plan: RunPlan, start: ResumePoint, freeze_table: str) -> list[MetricLogger]:
    """Write the run's own files and open its loggers (main rank); the JSONL logger comes first and is always there."""
    logging = plan.config.logging
    write_run_files(plan, start)
    files = JsonlLogger(plan.run, start.step)
    loggers: list[MetricLogger] = [files, ConsoleLogger(plan.length.total_steps, start.step)]
    if logging.wandb != "off":
        run = WandbRun(plan.config.name, start.identity["wandb_id"], describe_run(plan.run))
        loggers.append(WandbLogger(logging, plan.run, run, files.log_event))
    if logging.tensorboard:
        loggers.append(TensorBoardLogger(plan.run, start.step))
    print_above_bar(freeze_table, sys.stdout)
    files.log_event(make_event(start.step, "freeze_table", freeze_table))
    for note in plan.data_notes():
        print_above_bar(f"train and test: {note}", sys.stdout)
        files.log_event(make_event(start.step, "data", note))
    if layers := peft_layers_note(plan.config.model, plan.config.optim, plan.config.deepspeed.zero_stage):
        print_above_bar(f"LoRA: {layers}", sys.stdout)
        files.log_event(make_event(start.step, "lora", layers))
    if plan.config.train.deterministic:
        files.log_event(make_event(start.step, "deterministic", COST))
    for problem in start.problems:
        for logger in loggers:
            logger.log_event(make_event(start.step, "damaged_checkpoint", f"skipped {problem}"))
    return loggers
