"""Which kernels a run uses (`model.kernels`), and why: by device, ZeRO stage and installed packages.

    choice = choose_kernels("auto", "cuda", zero_stage=1)      # compile, "auto: a GPU with Triton, ZeRO 1"

The name, never `auto`, is what training runs and what a checkpoint records.
"""

import os
import shutil
import sysconfig
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from configs.errors import ConfigError
from configs.model import ModelConfig
from train.models.target_states import ForwardOptions, TargetStates
from train.models.trainable import TrainableFamily

INSTALL_LIGER = "pip install 'vlm-classify[kernels]'"


@dataclass(frozen=True)
class KernelChoice:
    """`name` is `none`, `compile` or `liger`; `reason` is a phrase for the dry run and for a refused resume."""

    name: str
    reason: str


def choose_kernels(setting: str, device: str, zero_stage: int, *, deterministic: bool = False) -> KernelChoice:
    """The kernels for `device` (`cpu` or `cuda`); `deterministic` is `train.deterministic`. `auto` never fails.

    Raises `ConfigError` where `compile` or `liger` is set and cannot run here.
    """
    if setting == "auto":
        return _automatic(device, zero_stage, deterministic)
    if setting == "compile":
        _require_compile(device, zero_stage)
    elif setting == "liger":
        _require_liger(device)
    return KernelChoice(setting, "set in model.kernels")


def fit_to_decoder(
    choice: KernelChoice, settings: ModelConfig, family: TrainableFamily, attention: str, *, deterministic: bool = False
) -> KernelChoice:
    """`choice`, or no kernels where `auto` took Liger's and transformers runs this decoder.

    Raises `ConfigError` where `liger` is set there, or `compile` with `train.deterministic`.
    """
    if choice.name != "liger" and not (choice.name == "compile" and deterministic):
        return choice
    with torch.device("meta"):
        model = family.model_class.from_config(family.config)
    if not (why := why_transformers(model, settings, family, attention)):
        return choice
    if choice.name == "compile":
        raise compile_not_repeatable(why)
    if settings.kernels == "liger":
        raise liger_unused(why)
    return KernelChoice("none", f"{choice.reason}, and Liger's kernels are not used {why}")


def why_transformers(model: Any, settings: ModelConfig, family: TrainableFamily, attention: str) -> str | None:
    """Why transformers runs the decoder of this model without storage, as a phrase; None where this project does."""
    if not attention.startswith("flash_attention"):  # which asks for its package
        model.set_attn_implementation(attention)
    options = ForwardOptions(skip_unneeded_compute=settings.skip_unneeded_compute)
    return TargetStates(model, family, options).why_transformers(packed=False)


def liger_unused(why: str) -> ConfigError:
    """The error for Liger's kernels where transformers runs the decoder, for the reason `why`."""
    return ConfigError(
        f"model.kernels is liger, whose kernels are not used {why}: transformers runs the layers there; set kernels: "
        "compile or none"
    )


def compile_not_repeatable(why: str) -> ConfigError:
    """The error for compiled layers with `train.deterministic` where transformers runs them, for the reason `why`."""
    return ConfigError(
        f"model.kernels is compile and train.deterministic is true, and {why} transformers runs the layers, compiled "
        "for the lengths of a process's first batch, so that a resume would not be bit-identical; set kernels: none"
    )


def _automatic(device: str, zero_stage: int, deterministic: bool) -> KernelChoice:
    """Compiled layers on a GPU: measured as fast as Liger's kernels with a frozen decoder, and LoRA's are fused too.

    Not with `deterministic`: that they repeat all bits was shown on a CPU only.
    """
    if device != "cuda":
        return KernelChoice("none", "auto: no GPU")
    if problem := triton_problem():
        return KernelChoice("none", f"auto: {problem}")
    if zero_stage < 3 and not deterministic:
        return KernelChoice("compile", f"auto: a GPU with Triton, ZeRO {zero_stage}")
    why = f"auto: {'ZeRO 3' if zero_stage == 3 else 'train.deterministic'}, where auto compiles no layers"
    if find_spec("liger_kernel"):
        return KernelChoice("liger", why)
    return KernelChoice("none", f"{why}; Liger's kernels run: {INSTALL_LIGER}")


def _require_compile(device: str, zero_stage: int) -> None:
    """Raise `ConfigError` where `torch.compile` cannot run."""
    if zero_stage == 3:  # it fetches the weights of each module by hooks
        raise ConfigError(
            "model.kernels is compile, which does not work with deepspeed.zero_stage 3; set kernels: none or liger"
        )
    problem = triton_problem() if device == "cuda" else _cpp_problem()
    if problem:
        raise ConfigError(f"model.kernels is compile, and {problem}; or set kernels: none")


def _require_liger(device: str) -> None:
    """Raise `ConfigError` where Liger's Triton kernels cannot run; on a CPU Triton's interpreter runs them."""
    if not find_spec("liger_kernel"):
        raise ConfigError(
            f"model.kernels is liger, and liger-kernel is not installed: {INSTALL_LIGER}, or set kernels: auto"
        )
    interpreted = os.environ.get("TRITON_INTERPRET") == "1" and find_spec("triton")
    if device != "cuda" and not interpreted:
        raise ConfigError("model.kernels is liger, which needs a GPU, and there is none here; set kernels: auto")
    if device == "cuda" and (problem := triton_problem()):
        raise ConfigError(f"model.kernels is liger, and {problem}; or set kernels: none")


def triton_problem() -> str | None:
    """What Triton lacks here to build a kernel, and how to get it; None if nothing is missing."""
    if not find_spec("triton"):
        return "Triton is not installed: pip install triton"
    if not (os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")):
        return "Triton finds no C compiler: install gcc, or name one in CC"
    scheme = sysconfig.get_default_scheme().replace("posix_local", "posix_prefix")  # Debian's has no headers
    header = Path(sysconfig.get_path("include", scheme)) / "Python.h"
    return None if header.is_file() else f"Triton needs {header}: install the Python headers (python3-dev)"


def _cpp_problem() -> str | None:
    """As `triton_problem` for compiled code on a CPU."""
    if os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++"):
        return None
    return "there is no C++ compiler: install g++, or name one in CXX"
