"""`train.deterministic`: bit-identical resumption on a GPU as well, and its cost.

On a CPU resumption is bit-identical without it. On a GPU it needs six corrections, each made here:

    cuBLAS with several streams         CUBLAS_WORKSPACE_CONFIG=:4096:8 (cuBLAS, "Results reproducibility")
    kernels that add with atomics       torch.use_deterministic_algorithms: another kernel, or an error that names it
    attention's backward in PyTorch     the same, but only if errors are allowed: with warn_only it stays as it was
                                        (aten/native/transformers/cuda/attention_backward.cu)
    flash-attn's backward               FLASH_ATTENTION_DETERMINISTIC=1, which transformers passes on
    cuDNN's choice by timing            switched off
    choices of torch.compile by timing  switched off (`torch._inductor.config`: deterministic, shape_padding)
"""

import os

import torch

ENVIRONMENT = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8", "FLASH_ATTENTION_DETERMINISTIC": "1"}
COST = (
    "cuBLAS keeps about 24 MiB of workspace (NVIDIA's figure), attention's backward and scattered sums run slower "
    "kernels and new memory is filled; how much slower was not measured for this project. A kernel that has no "
    "deterministic form ends the run and is named. Other GPUs, worlds or library versions give other bits."
)


def make_deterministic() -> None:
    """Ask for deterministic kernels; call it before the first one runs."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    from torch._inductor import config as inductor  # its import takes a second

    inductor.shape_padding = False
    if hasattr(inductor, "deterministic"):  # torch 2.9 and later
        inductor.deterministic = True
