"""Memory, kernels and time of a layer with LoRA, next to peft's."""

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from configs.command_line import emit_json
from configs.model import LoraConfig, ModelConfig
from configs.training import OptimConfig
from data_prep.benchmarks.timing import best_cpu_seconds
from train.models import dropout_mask
from train.models.activation_memory import layer_bytes_per_token
from train.models.llama_layers import Angles, after_attention, causal_attention, queries_keys_values, rotary_angles
from train.models.llava import LlavaFamily
from train.models.loading import DTYPES
from train.models.param_groups import choose_trainable
from train.toy.random_models import random_config

OURS, PEFT = "ours", "peft"
ZERO_STAGES = {OURS: 0, PEFT: 3}  # ZeRO 3 trains with peft's layers
FULL_SHAPE, SMALL_SHAPE = "llava-1.5-7b", "7b-proportions"
RANK_SHARE = 32  # LLaVA-1.5-7B: hidden size 4096, rank 128
NO_KERNEL = ("empty", "empty_like", "empty_strided", "new_empty", "detach", "_unsafe_view", "_reshape_alias")
PEFT_MASK = ("bernoulli_", "div_")  # on a GPU one kernel with the product that follows


def measure(tokens: int, dropout: float, dtype: str, rounds: int) -> dict[str, Any]:
    """Figures of both sides and the ratios of ours to peft's."""
    layers = {name: SmallLayer.make(stage, dropout, DTYPES[dtype], tokens) for name, stage in ZERO_STAGES.items()}
    figures: dict[str, dict[str, float]] = {
        "bytes per token and layer": {name: _kept_bytes(stage, dropout) for name, stage in ZERO_STAGES.items()},
        "kernels per layer": {name: float(kernels_of(layer.step)) for name, layer in layers.items()},
        "CPU seconds": best_cpu_seconds({name: layer.step for name, layer in layers.items()}, rounds),
    }
    for sides in figures.values():
        sides["ratio"] = sides[OURS] / sides[PEFT]
    gradients = [SmallLayer.make(stage, 0.0, torch.float32, tokens).gradients() for stage in ZERO_STAGES.values()]
    difference = float((gradients[0] - gradients[1]).norm() / gradients[1].norm())
    return {**figures, "gradient difference without dropout, fp32": difference}


@dataclass
class SmallLayer:
    """A decoder layer with LoRA and its input."""

    decoder: Any
    states: torch.Tensor  # (1, tokens, H)
    angles: Angles

    @classmethod
    def make(cls, zero_stage: int, dropout: float, dtype: torch.dtype, tokens: int) -> "SmallLayer":
        """Random weights, equal at every call."""
        torch.manual_seed(0)
        model, family = _adapted_model(SMALL_SHAPE, zero_stage, dropout)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:  # it starts at zero: A would get no gradient
                torch.nn.init.normal_(parameter, std=0.02)
        decoder: Any = family.decoder(model.to(dtype))
        states = torch.randn(1, tokens, decoder.config.hidden_size).to(dtype)
        angles = rotary_angles(decoder, states, torch.arange(tokens)[None])
        return cls(decoder, states.requires_grad_(), angles)

    def step(self) -> None:
        """Forward and backward."""
        layer, states = self.decoder.layers[0], self.states
        layer.zero_grad()
        states.grad = None
        queries, keys, values = queries_keys_values(layer, states, self.angles)
        finished = after_attention(layer, states, causal_attention(layer.self_attn, queries, keys, values))
        finished.backward(torch.ones_like(finished))  # type: ignore[no-untyped-call]

    def gradients(self) -> torch.Tensor:
        """Of the input and of all adapters, after one step, in one vector."""
        self.step()
        parameters = [parameter.grad for parameter in self.decoder.layers[0].parameters()]
        return torch.cat([part.flatten() for part in (self.states.grad, *parameters) if part is not None])


def _adapted_model(shape: str, zero_stage: int, dropout: float) -> tuple[Any, LlavaFamily]:
    config = random_config(shape)
    config.text_config.num_hidden_layers = config.vision_config.num_hidden_layers = 1
    family, rank = LlavaFamily(config, None), config.text_config.hidden_size // RANK_SHARE
    lora = LoraConfig(rank=rank, alpha=2.0 * rank, dropout=dropout)
    model = family.model_class.from_config(config)
    choose_trainable(model, family, ModelConfig(base="random", mode="lora", lora=lora), OptimConfig(), zero_stage)
    return model.train(), family


def _kept_bytes(zero_stage: int, dropout: float) -> float:
    with torch.device("meta"):
        model, family = _adapted_model(FULL_SHAPE, zero_stage, dropout)
    kept = layer_bytes_per_token(model, family, torch.bfloat16)
    assert kept is not None
    return kept


def kernels_of(step: Callable[[], object]) -> int:
    """Kernels that `step` would launch on a GPU."""
    step()  # what happens once only is not counted
    with _Kernels() as kernels, patch.object(dropout_mask, "_kernel", kernels.one):
        step()
    return int(kernels.count)


class _Kernels(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the operations that compute something."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0
        self.paused = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        self.count += not (self.paused or func.is_view or name in NO_KERNEL + PEFT_MASK)
        return func(*args, **(kwargs or {}))

    def one(self, function: Callable[..., torch.Tensor], states: torch.Tensor) -> Callable[..., torch.Tensor]:  # noqa: ARG002
        """`function`, which counts as one kernel."""

        def counted(*given: Any) -> torch.Tensor:
            self.count += 1
            with self._pause():
                return function(*given)

        return counted

    @contextmanager
    def _pause(self) -> Iterator[None]:
        self.paused = True
        try:
            yield
        finally:
            self.paused = False


def measure_and_print(arguments: argparse.Namespace) -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    measured = measure(arguments.tokens, arguments.dropout, arguments.dtype, arguments.rounds)
    result = {"torch": torch.__version__, **{k: v for k, v in vars(arguments).items() if k != "json"}, **measured}
    if emit_json(arguments.json, result):
        return
    for name, value in result.items():
        if isinstance(value, dict):
            print(f"{name:<44}" + ", ".join(f"{side} {figure:.4g}" for side, figure in value.items()))
        else:
            print(f"{name:<44}{value:.3g}" if isinstance(value, float) else f"{name:<44}{value}")
