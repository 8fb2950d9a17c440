"""Row 29: a run of two ranks goes on with one, two or four, in ZeRO 1, 2 and 3, in bf16 (resume_in_worlds.py)."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).with_name("resume_in_worlds.py")
STAGES, SAVED, STEPS = (1, 2, 3), 4, 8


def in_world(world: int, training_setup, folder: Path, cells: list[str]) -> dict[str, Any]:
    words = [sys.executable, str(SCRIPT), str(world), str(folder), str(training_setup.config_file("worlds")), *cells]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}
    done = subprocess.run(words, capture_output=True, text=True, timeout=600, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def runs(training_setup, tmp_path_factory) -> dict[str, Any]:
    """The uninterrupted runs of two ranks, and what continues each of them in every stage or world."""
    folder = tmp_path_factory.mktemp("worlds")
    found = in_world(2, training_setup, folder, [f"two-{n}:{n}:" for n in STAGES])
    for world in (1, 2, 4):
        found |= in_world(world, training_setup, folder, [f"two-{n}-on-{world}:{n}:two-{n}" for n in STAGES])
    return found


@pytest.mark.parametrize(
    ("world", "stage"),
    [
        pytest.param(
            world,
            stage,
            marks=pytest.mark.fault(
                29,
                f"resume of 2 ranks on {world}, ZeRO {stage}, bf16, LoRA",
                "bit-equal" if world == 2 else "same global batches, losses within 5e-3",
                long=True,
            ),
        )
        for world in (1, 2, 4)
        for stage in STAGES
    ],
)
def test_a_run_continues_in_another_world(runs, seen, world, stage):
    uninterrupted, other = runs[f"two-{stage}"], runs[f"two-{stage}-on-{world}"]
    assert len(uninterrupted["losses"]) == len(other["losses"]) == STEPS
    for step in map(str, range(SAVED + 1, STEPS + 1)):
        assert other["read"][step] == uninterrupted["read"][step]
        assert len(other["read"][step]) == 8
    assert uninterrupted["read"]["5"] != uninterrupted["read"]["6"], (
        "batches differ, so the comparison could have failed"
    )
    pairs = list(zip(uninterrupted["losses"][SAVED:], other["losses"][SAVED:], strict=True))
    worst = max(abs(a - b) for a, b in pairs)
    seen(f"same 4 x 8 samples, losses differ by at most {worst:.2g} (loss {pairs[-1][0]:.3f})")
    assert worst == 0 if world == 2 else worst <= 5e-3
    assert len({round(a, 3) for a, _ in pairs}) > 1, "the losses move"
    if world == 2:
        assert other["norms"] == uninterrupted["norms"]
