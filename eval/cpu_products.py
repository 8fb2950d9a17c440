"""Matrix products of a frozen model on a CPU by whichever of PyTorch's two libraries is the faster one there.

PyTorch multiplies fp32 matrices with MKL, which gives processors that are not Intel's its 256-bit code: 120 GFLOP/s a
core on an AMD EPYC with AVX-512, where oneDNN, the other library that PyTorch ships, reaches 270 (measured, PyTorch
2.13). Both sum in fp32; results differ in the last bits, as between any two machines. Nothing changes on a GPU, on
Intel's processors, in bf16 (which is oneDNN's already) and where gradients are taken.
"""

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

LEAST_ROWS = 2  # of the left matrix; a single row is read-bound, and MKL's product of small ones is the quicker one


class FastProducts(TorchFunctionMode):
    """While entered, `nn.Linear` of fp32 on a CPU goes through oneDNN where that is faster.

    with FastProducts(): states = decoder(inputs_embeds=...)
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        """Every function of torch comes through here; all but the products go on as they are."""
        del types
        if func is F.linear and not kwargs and onednn_is_faster() and _takes(args[0], args[1]):
            return linear(*args)
        return func(*args, **(kwargs or {}))


def linear(states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """`F.linear` of (..., H) and (C, H) by oneDNN; for fp32 on a CPU without gradients."""
    product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(states, weight, bias, "none", [], "")
    return product


def _takes(states: torch.Tensor, weight: torch.Tensor) -> bool:
    return (
        states.dtype == weight.dtype == torch.float32
        and states.device.type == "cpu"
        and states.numel() >= LEAST_ROWS * states.shape[-1]
        and not torch.is_grad_enabled()
    )


@cache
def onednn_is_faster() -> bool:
    """Whether this is an AMD processor with AVX-512, and this PyTorch has oneDNN's product."""
    file = Path("/proc/cpuinfo")
    amd = file.is_file() and "AuthenticAMD" in file.read_text(encoding="utf-8", errors="replace")
    wide = torch.backends.cpu.get_cpu_capability() == "AVX512"
    return amd and wide and torch._C._has_mkldnn and hasattr(torch.ops.mkldnn, "_linear_pointwise")
