"""PiSSA: LoRA that begins with the largest singular values of each weight (arXiv 2404.02948).

    initial = principal_matrices(model, config)     # of a model with adapters: A and B of each layer, in fp32
    start_from(model, initial, config)              # adapters begin with them; frozen weights lose their product

As peft's `init_lora_weights="pissa"`. The frozen weights of a run are W - scale x B A, for the first A and B. A
singular value decomposition does not give the same bits on every machine, so a run computes them once and keeps them in
its folder: resume and export read them.
"""

from collections.abc import Mapping
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from configs.errors import RunError
from configs.model import LoraConfig
from configs.run_dir import RunDir
from data_prep.atomic import write_bytes
from train.models.lora import lora_scale

Matrices = dict[str, torch.Tensor]
"""Names of parameters such as `LAYER.lora_A.default.weight` to tensors (fp32)."""


@torch.no_grad()
def principal_matrices(model: nn.Module, config: LoraConfig) -> Matrices:
    """A and B of each adapted layer of `model`, whose weights are still the base's."""
    found: Matrices = {}
    for name, layer in _adapted(model).items():
        weight = layer.base_layer.weight.float()
        left, values, right = torch.linalg.svd(weight, full_matrices=False)
        roots = torch.sqrt(values[: config.rank] / lora_scale(config))
        found[f"{name}.lora_A.default.weight"] = roots[:, None] * right[: config.rank]
        found[f"{name}.lora_B.default.weight"] = left[:, : config.rank] * roots
    return found


@torch.no_grad()
def start_from(model: nn.Module, initial: Mapping[str, torch.Tensor], config: LoraConfig) -> None:
    """Set the adapters of `model` to `initial`, and take it off the weights below them."""
    for name, layer in _adapted(model).items():
        for matrix in ("lora_A", "lora_B"):
            getattr(layer, matrix)["default"].weight.copy_(initial[f"{name}.{matrix}.default.weight"])
    weights = {name: layer.base_layer.weight for name, layer in _adapted(model).items()}
    _subtract(weights, initial, config)


@torch.no_grad()
def subtract(model: nn.Module, initial: Mapping[str, torch.Tensor], config: LoraConfig) -> None:
    """Take `initial` off the weights of a `model` without adapters: those that the run's frozen layers had."""
    layers = [name.split(".lora_A.")[0] for name in initial if ".lora_A." in name]
    _subtract({name: model.get_parameter(f"{name}.weight") for name in layers}, initial, config)


def write_initial(run: RunDir, initial: Matrices) -> None:
    """Keep the first matrices of a run in its folder."""
    run.root.mkdir(parents=True, exist_ok=True)
    write_bytes(run.pissa, save({name: tensor.cpu().contiguous() for name, tensor in initial.items()}))


def read_initial(run: RunDir) -> Matrices:
    """The first matrices of a run. Raises `RunError` if its folder lacks them or the file is damaged."""
    try:
        return load_file(run.pissa)
    except (OSError, SafetensorError) as error:
        raise RunError(
            f"{run.pissa} cannot be read ({error}), and a run with model.lora.variant pissa needs it: the weights below"
            " its LoRA are the base's without these matrices; restore it from where the run's folder was copied"
        ) from error


def _subtract(weights: Mapping[str, torch.Tensor], initial: Mapping[str, torch.Tensor], config: LoraConfig) -> None:
    for name, weight in weights.items():
        # on one device for all, so that a run and its export round alike
        down, up = (initial[f"{name}.{matrix}.default.weight"].cpu() for matrix in ("lora_A", "lora_B"))
        weight.data.copy_(weight.data.cpu().float() - lora_scale(config) * (up @ down))


def _adapted(model: nn.Module) -> dict[str, Any]:
    return {name: module for name, module in model.named_modules() if hasattr(module, "lora_magnitude_vector")}
