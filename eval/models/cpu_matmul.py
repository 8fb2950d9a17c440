"""Matrix products of a frozen model on a CPU by whichever of PyTorch's two libraries is the faster one there.

PyTorch multiplies fp32 matrices with MKL, which gives processors that are not Intel's its 256-bit code: 120 GFLOP/s a
core on an AMD EPYC with AVX-512, where oneDNN, the other library that PyTorch ships, reaches 270 (measured, PyTorch
2.13). Both sum in fp32; results differ in the last bits, as between any two machines. Nothing changes on a GPU, on
Intel's processors, in bf16 (which is oneDNN's already) and where gradients are taken.

Tensor shapes: `B` rows, `h` heads, `g` heads of keys, `N` queries, `K` keys, `d` head size, `H` inputs, `C` outputs.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

LEAST_ROWS = 2  # of the left matrix; a single row is read-bound, and MKL's product of small ones is the quicker one
LEAST_QUERIES = 16
LOWEST = torch.finfo(torch.float32).min  # not -inf: a padding query that sees nothing must not become NaN
BLOCK = 128  # queries at a time: their scores against all keys stay in the cache


_DEFAULT = ContextVar("default_products", default=False)


def fast_products(states: torch.Tensor) -> AbstractContextManager[Any]:
    """A context in which a model's products for inputs like `states` go through oneDNN where that is faster.

    with fast_products(embeddings): states = decoder(inputs_embeds=embeddings)
    """
    return OneDnnProducts() if prefers_onednn(states) else nullcontext()


def prefers_onednn(states: torch.Tensor) -> bool:
    """Whether `linear` is the faster product for fp32 inputs like `states`."""
    wanted = states.device.type == "cpu" and states.dtype == torch.float32 and not _DEFAULT.get()
    return wanted and onednn_is_faster()


@contextmanager
def default_products() -> Iterator[None]:
    """While entered, `fast_products` changes nothing: for benchmarks that say what it brings."""
    before = _DEFAULT.set(True)
    try:
        yield
    finally:
        _DEFAULT.reset(before)


class OneDnnProducts(TorchFunctionMode):
    """While entered, `nn.Linear` and attention of fp32 on a CPU go through oneDNN, but for the smallest."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        """Called for every function of torch; replaces matrix products and attention, calls all others unchanged."""
        del types
        if func is F.linear and not kwargs and _takes(args[0], args[1]):
            return linear(*args)
        if func is F.scaled_dot_product_attention and _attends(*args, **kwargs or {}):
            return attention(*args, **kwargs or {})
        return func(*args, **(kwargs or {}))


def linear(states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """`F.linear` of (..., H) and (C, H) by oneDNN; for fp32 on a CPU without gradients."""
    multiplied: torch.Tensor = torch.ops.mkldnn._linear_pointwise(states, weight, bias, "none", [], "")
    return multiplied


def packed(weight: torch.Tensor) -> torch.Tensor:
    """`weight` (C, H) in the memory layout that `linear` reads; pays off for a matrix that is used many times.

    The result can be used by `linear` only.
    """
    ordered: torch.Tensor = torch.ops.mkldnn._reorder_linear_weight(weight)
    return ordered


def attention(queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, **options: Any) -> torch.Tensor:
    """(B, h, N, d): `F.scaled_dot_product_attention` of (B, h, N, d) and (B, g, K, d) with two products a head.

    `options` are its own: `attn_mask`, `is_causal`, `scale`. Of causal attention only what is seen is computed.
    """
    mask, causal = options.get("attn_mask"), bool(options.get("is_causal"))
    scaled = queries * (options.get("scale") or queries.shape[-1] ** -0.5)
    if mask is not None:
        mask = mask.expand(queries.shape[0], queries.shape[1], queries.shape[2], keys.shape[2])
    elif causal:
        corner = torch.ones(BLOCK, BLOCK, dtype=torch.bool).triu_(1)  # of a block, what comes after each query
    attended, groups = torch.empty_like(scaled), queries.shape[1] // keys.shape[1]
    for row, head in product(range(queries.shape[0]), range(queries.shape[1])):
        own_keys, own_values = keys[row, head // groups], values[row, head // groups].t()
        for start in range(0, queries.shape[2], BLOCK):
            block = scaled[row, head, start : start + BLOCK]
            seen = start + len(block) if causal else keys.shape[2]
            scores = linear(block, own_keys[:seen])  # (<= BLOCK, seen)
            if causal:
                scores[:, start:].masked_fill_(corner[: len(block), : len(block)], -torch.inf)
            elif mask is not None and mask.dtype == torch.bool:
                scores.masked_fill_(~mask[row, head, start : start + BLOCK], LOWEST)
            elif mask is not None:
                scores += mask[row, head, start : start + BLOCK]
            attended[row, head, start : start + BLOCK] = linear(scores.softmax(-1), own_values[:, :seen])
    return attended


def _attends(queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, **options: Any) -> bool:
    known = {"attn_mask", "is_causal", "scale", "enable_gqa", "dropout_p"}
    square = queries.shape[-2] == keys.shape[-2] or not options.get("is_causal")
    plain = set(options) <= known and not options.get("dropout_p") and queries.dim() == 4 and square
    return plain and queries.shape[2] >= LEAST_QUERIES and _takes(queries, keys) and values.dtype == queries.dtype


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
