"""The live half of the benchmark."""

from typing import Any


def live_benchmark() -> tuple[str, dict[str, Any], bool]:
    """(table, data, all targets reached)."""
    raise NotImplementedError
