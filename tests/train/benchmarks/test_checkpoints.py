"""The checkpoint benchmark on the tiny shape: both sides run, and the ratio is theirs to ours."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.slow
def test_both_sides_run_in_one_process_and_the_ratio_is_printed(tmp_path):
    output = tmp_path / "figures.json"
    words = [sys.executable, "-m", "train.benchmarks.checkpoints", "--shape", "tiny", "--rank", "8", "--repeats", "1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [*words, "--folder", str(tmp_path), "--json", str(output)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "deepspeed / ours" in done.stdout
    result = json.loads(output.read_text())
    ours, theirs = result["figures"]["ours"], result["figures"]["deepspeed"]
    assert 0 < ours["stopped_s"] <= ours["safe_s"]
    assert result["trainable"] * 12 < ours["bytes"] < result["trainable"] * 12 + 20_000, "weights, moments, names"
    assert theirs["bytes"] > result["trainable"] * 12 + (result["parameters"] - result["trainable"]) * 2
    assert result["ratio_to_ours"]["deepspeed"]["bytes"] == theirs["bytes"] / ours["bytes"]
    assert not list(tmp_path.glob("vlm-checkpoints-*")), "nothing is left"
