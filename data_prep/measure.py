"""Fair comparisons: both sides in one process run, taking turns, CPU seconds instead of wall time, the best of N."""

import time
from collections.abc import Callable, Mapping


def best_cpu_seconds(sides: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Least CPU seconds of each side over `rounds` rounds in which every side runs once.

    The minimum is what the work costs; whatever else runs on the machine only ever adds to it. The first round is
    preceded by an unmeasured one, so that imports, caches and allocators are warm on all sides.
    """
    best = dict.fromkeys(sides, float("inf"))
    for number in range(rounds + 1):
        for name, side in sides.items():
            start = time.process_time()
            side()
            if number:
                best[name] = min(best[name], time.process_time() - start)
    return best
