"""Measurements within a budget of seconds: the most important first, each written as soon as it is there.

    results = run_rows(rows, budget=300, rate=7e14, write=print_line)

A row that no longer fits, or cannot run here, is left out with the reason; one that fails, also for lack of memory, has
its error as its result. The next row runs either way.
"""

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from configs.errors import UserError, first_line, kind_and_line

Figures = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """One measurement."""

    name: str
    title: str
    measure: Callable[[], Figures]
    flops: float = 0.0
    """Operations of all its runs, warm-up included."""
    utilization: float = 0.4
    """Assumed share of the device's matrix-product rate."""
    fixed_seconds: float = 3.0
    """What does not depend on the model: starting data workers, compiling."""

    def estimate(self, rate: float) -> float:
        """Seconds on a device of `rate` FLOP/s."""
        return self.fixed_seconds + self.flops / (rate * self.utilization)


@dataclass(frozen=True)
class Ratio:
    """A quotient of two rows' figures."""

    above: str
    below: str
    figure: str
    goal: float | None = None

    def of(self, results: Sequence[Figures]) -> float | None:
        """Its value, or None while a side is missing."""
        values = {row["row"]: row[self.figure] for row in results if self.figure in row}
        return values[self.above] / values[self.below] if self.above in values and self.below in values else None


def run_rows(
    rows: Sequence[Row],
    ratios: Sequence[Ratio],
    budget: float,
    rate: float,
    write: Callable[[Figures], None],
) -> list[Figures]:
    """Measure what fits into `budget` seconds, and pass each result to `write` at once."""
    end, results, written = time.monotonic() + budget, list[Figures](), set[Ratio]()
    for row in rows:
        left, needed = end - time.monotonic(), row.estimate(rate)
        if needed > left:
            found: Figures = {
                "left_out": f"takes about {needed:.0f} s, and {max(0.0, left):.0f} s of the budget are left"
            }
        else:
            found = _measured(row)
        results.append({"row": row.name, "title": row.title, **found})
        write(results[-1])
        for ratio in ratios:
            if ratio not in written and (value := ratio.of(results)) is not None:
                written.add(ratio)
                write({"ratio": f"{ratio.above} / {ratio.below}", "of": ratio.figure, "value": value})
    return results


def _measured(row: Row) -> Figures:
    started = time.monotonic()
    free_memory()
    try:
        found = row.measure()
    except UserError as error:  # such as kernels that cannot run here
        return {"left_out": str(error)}
    except torch.OutOfMemoryError as error:
        found = {"error": f"out of memory: {first_line(error)[:200]}"}
    except Exception as error:  # whatever a kernel raises: the other rows are worth having
        found = {"error": f"{kind_and_line(error)[:200]}"}
    if torch.cuda.is_available():
        found["peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
    return found | {"took_s": time.monotonic() - started}


def free_memory() -> None:
    """Give back what is no longer used, and count the peak from here on."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def matrix_product_rate(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of a square product, the best of a few: 8192 wide on a GPU, 1024 on a CPU."""
    size = 8192 if device.type == "cuda" else 1024
    matrix = torch.randn(size, size, device=device, dtype=dtype)
    best = float("inf")
    for _ in range(8):
        _wait(device)
        started = time.perf_counter()
        matrix @ matrix
        _wait(device)
        best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
