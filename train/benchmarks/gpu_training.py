"""Training steps of one loaded model, each measured by itself: this project's and transformers', on the same data.

    bench = TrainingBench(model, family, world, TrainingOptions())
    bench.projector("auto")                       # {"images_per_s": ..., "step_s": ..., "mfu": ...}
    bench.transformers(checkpointing=True)
    bench.lora()                                  # adapters are added, trained and removed again

Ours are whole training steps: JPEGs through training's loader, forward, backward, AdamW behind DeepSpeed. transformers
gets a batch that is on the device already, and torch's AdamW. A step's time is the median of the steps after the first
`WARMUP`, which choose and compile kernels.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from configs.batch_plan import plan_batches
from configs.data import DataConfig, SourceConfig
from configs.deepspeed_settings import deepspeed_settings
from configs.model import LoraConfig, ModelConfig
from configs.run import RunConfig
from configs.training import OptimConfig, TrainConfig
from configs.zero import DeepSpeedConfig
from train.benchmarks.against_transformers import transformers_loss
from train.benchmarks.generated import GeneratedData, tokens_of
from train.distributed.world import World
from train.kernel_choice import choose_kernels
from train.models.batch import Batch
from train.models.checkpointing import checkpoint_activations
from train.models.layer_parts import restore_layers
from train.models.loss_module import LossModule
from train.models.param_groups import PartCount, choose_trainable, count_parts, lora_row
from train.models.square_images import PIXELS
from train.models.target_states import ForwardOptions
from train.models.trainable import TrainableFamily
from train.optimization.engine import Engine
from train.optimization.flops import FlopModel, peak_flops

WARMUP = 2
ZERO_STAGE = DeepSpeedConfig().zero_stage
Figures = dict[str, Any]


@dataclass(frozen=True)
class TrainingOptions:
    """Sizes of what is measured."""

    micro_batch: int = 16
    lora_batch: int = 8
    lora_rank: int = 128
    steps: int = 6
    """Measured steps, after `WARMUP`."""
    workers: int = 4
    """Data-loading processes."""


@dataclass
class TrainingBench:
    """One model on its device; every method leaves it as it was."""

    model: Any
    family: TrainableFamily
    world: World
    options: TrainingOptions
    data: GeneratedData = field(init=False)

    def __post_init__(self) -> None:
        self.data = GeneratedData(self.family)
        self.model.requires_grad_(False)

    @property
    def _device(self) -> torch.device:
        return self.world.device

    def flops(self, mode: str, images: int = 1) -> float:
        """Operations of a step on `images` ImageNet examples, by the count that MFU uses."""
        return self._flop_model(mode).step([self.data.jpeg_batch(images)])

    def _flop_model(self, mode: str) -> FlopModel:
        counts = [
            replace(row, trainable=row.total if mode == "full" and row.part == "language" else 0)
            for row in count_parts(self.model, self.family, OptimConfig())
        ]
        lora = self.options.lora_rank * sum(
            sum(module.weight.shape)
            for name, module in self.model.named_modules()
            if isinstance(module, nn.Linear) and name.endswith(self.family.lora_targets) and self._is_language(name)
        )
        if mode == "lora":
            counts.append(PartCount(lora_row("language"), lora, lora, 0.0))
        return FlopModel.of(self.family, counts)

    def _is_language(self, name: str) -> bool:
        return self.family.part_of(f"{name}.weight") == "language"

    def kernels(self, setting: str) -> str:
        """What `model.kernels` resolves to on this device. Raises `ConfigError` for kernels that cannot run here."""
        return choose_kernels(setting, self._device.type, ZERO_STAGE).name

    def projector(self, kernels: str) -> Figures:
        """Projector only, from JPEGs, with `model.kernels`."""
        return self._ours("projector", kernels, self.options.micro_batch)

    def lora(self, kernels: str = "auto") -> Figures:
        """LoRA and projector, from JPEGs."""
        return self._ours("lora", kernels, self.options.lora_batch)

    def _ours(self, mode: str, kernels: str, micro_batch: int) -> Figures:
        steps = self.data.jpeg_steps(micro_batch, self.options.workers)
        flops = self.flops(mode, micro_batch)
        waits: list[float] = []

        def step() -> Batch:
            started = time.perf_counter()
            batch = next(steps)
            waits.append(time.perf_counter() - started)
            engine.accumulate([batch])
            engine.update(1.0)
            return batch

        try:
            with self._engine(mode, kernels) as engine:
                seconds, batch = self._timed(step)
        finally:
            steps.close()
        wait = statistics.median(waits[WARMUP:]) / seconds
        return self._figures(seconds, flops, [batch]) | {"kernels": self.kernels(kernels), "data_wait_share": wait}

    def packed(self) -> Figures:
        """Projector only, on packed rows of the modelled mixture."""
        rows = self.data.mixture(self.options.micro_batch, 3)
        flops = self._flop_model("projector").step(rows)

        def step() -> None:
            for row in rows:
                engine.accumulate([row])
                engine.update(1.0)

        with self._engine("projector", "auto") as engine:
            step()  # each row has its own length
            seconds, _ = self._timed(step, count=max(1, self.options.steps // len(rows)), warmup=0)
        return self._figures(seconds, flops, rows) | {"rows": len(rows)}

    def transformers(self, *, checkpointing: bool) -> Figures:
        """Projector only, by transformers' own forward pass."""
        batch = self.data.jpeg_batch(self.options.micro_batch).to(self._device)
        pixels = self.family.normalized(batch.images.tensors[PIXELS], self.model.dtype)
        choose_trainable(self.model, self.family, ModelConfig(base="", mode="projector"), OptimConfig())
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=1e-4, fused=self._device.type == "cuda")
        self.model.train()

        def step() -> None:
            transformers_loss(self.model, batch, pixels).backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            optimizer.zero_grad()

        if checkpointing:
            checkpoint_activations(self.model)
        try:
            seconds, _ = self._timed(step)
        finally:
            self.model.gradient_checkpointing_disable()
            self._restore()
        return self._figures(seconds, self.flops("projector", self.options.micro_batch), [batch])

    @contextmanager
    def _engine(self, mode: str, kernels: str) -> Iterator[Engine]:
        """The engine of a training in `mode`; afterwards nothing of it is left in the model."""
        settings = ModelConfig(
            base="",
            mode=mode,
            dtype="bf16" if self.model.dtype == torch.bfloat16 else "fp32",
            lora=replace(LoraConfig(), rank=self.options.lora_rank),
        )
        config = RunConfig(
            name="benchmark",
            data=DataConfig(shards="", sources={"images": SourceConfig(reader="image_folder", path="")}),
            model=settings,
            train=TrainConfig(sources=("images",)),
        )
        layers = {name: module for name, module in self.model.named_modules() if isinstance(module, nn.Linear)}
        engine: Engine | None = None
        try:
            choose_trainable(self.model, self.family, settings, config.optim)
            options = ForwardOptions(self.data.builder.prefix, kernels=self.kernels(kernels))
            module = LossModule(self.model, self.family, options)
            engine = Engine(module, deepspeed_settings(config, plan_batches(1, 1, 1, 1)), config.optim, self.world)
            yield engine
        finally:
            if engine is not None:
                engine.engine.destroy()
            restore_layers(self.model)
            for name, layer in layers.items():
                if self.model.get_submodule(name) is not layer:
                    self.model.set_submodule(name, layer)
            self._restore()

    def _restore(self) -> None:
        """Freeze the model and drop gradients."""
        self.model.requires_grad_(False)
        self.model.zero_grad()
        self.model.eval()

    def _timed(
        self, step: Callable[[], Batch | None], count: int | None = None, warmup: int = WARMUP
    ) -> tuple[float, Any]:
        """Median seconds of a step, and what the last one returned."""
        taken: list[float] = []
        for _ in range(warmup + (count or self.options.steps)):
            self._wait()
            started = time.perf_counter()
            made = step()
            self._wait()
            taken.append(time.perf_counter() - started)
        return statistics.median(taken[warmup:]), made

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize()

    def _figures(self, seconds: float, flops: float, batches: list[Batch]) -> Figures:
        images = sum(len(batch.images) for batch in batches)
        figures: Figures = {
            "images_per_s": images / seconds,
            "tokens_per_s": tokens_of(batches) / seconds,
            "step_s": seconds,
            "tflop_per_s": flops / seconds / 1e12,
        }
        peak = peak_flops(torch.cuda.get_device_name()) if self._device.type == "cuda" else None
        return figures | ({"mfu": flops / seconds / peak} if peak else {})
