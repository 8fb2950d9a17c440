"""Comparable timings: all variants run in turns in one process; CPU seconds, not wall time; the best of N rounds."""

import resource
from collections.abc import Callable, Mapping
from io import BytesIO

import numpy as np
from PIL import Image


def cpu_seconds() -> float:
    """CPU time (user and system) of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def best_cpu_seconds(
    sides: Mapping[str, Callable[[], object]], rounds: int, before: Callable[[], None] = lambda: None
) -> dict[str, float]:
    """Least CPU seconds of each side over `rounds` rounds in which every side runs once, after `before`.

    The minimum is used because other processes on the machine can only add time. An unmeasured round is run first, so
    that imports, caches and allocators are warm for all sides.
    """
    best = dict.fromkeys(sides, float("inf"))
    for number in range(rounds + 1):
        for name, side in sides.items():
            before()
            start = cpu_seconds()
            side()
            if number:
                best[name] = min(best[name], cpu_seconds() - start)
    return best


def made_jpeg(seed: int, side: int = 500) -> bytes:
    """A generated JPEG of smooth shapes and noise, 4:3 or 3:4, with a longer side of `side` pixels.

    With 500 pixels it has ImageNet's usual size (about 110 KB), with 96 about 6 KB.
    """
    rng = np.random.default_rng(seed)
    size = (side, side * 3 // 4) if seed % 4 else (side * 3 // 4, side)
    shapes = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
    pixels = np.clip(np.asarray(shapes) + rng.normal(0, 14, (size[1], size[0], 1)), 0, 255).astype(np.uint8)
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, format="JPEG", quality=94)
    return buffer.getvalue()
