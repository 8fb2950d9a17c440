"""The rows of one device: most important first, within the budget, whatever one of them does."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from eval.benchmarks import budgeted_rows, gpu, gpu_rows
from eval.benchmarks.budgeted_rows import Ratio, Row, run_rows

ROOT = Path(__file__).resolve().parents[3]
CHEAP = "projector,transformers-checkpointing,transformers,lora,packed,top1,greedy,generate"


@pytest.mark.slow
def test_every_kind_of_row_runs_on_one_tiny_model_on_a_cpu(tmp_path):
    output = tmp_path / "rows.jsonl"
    command = [sys.executable, "-m", "eval.benchmarks.gpu", "--shape", "tiny", "--rows", CHEAP, "--json", str(output)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    machine, *lines = map(json.loads, output.read_text().splitlines())
    assert machine["torch"] == torch.__version__
    assert {"device", "attention", "dtype", "date", "budget_s", "product_tflop_per_s"} <= machine.keys()
    rows = [line for line in lines if "row" in line]
    assert [row["row"] for row in rows] == CHEAP.split(",")
    for row in rows:
        assert "error" not in row, row
        assert row["images_per_s"] > 0
        assert row["step_s"] > 0
    assert 0 <= rows[0]["data_wait_share"] < 1
    assert [line["ratio"] for line in lines if "ratio" in line] == [f"{r.above} / {r.below}" for r in gpu_rows.RATIOS]
    assert lines[2]["ratio"] == "projector / transformers-checkpointing", "written once both sides are there"
    assert "LoRA of rank 4" in done.stdout
    assert "projector / transformers, images_per_s" in done.stdout


@pytest.fixture(autouse=True)
def no_collection(monkeypatch):
    """The memory of these rows is nothing; a collection of all that the test process holds takes half a second."""
    monkeypatch.setattr(budgeted_rows, "free_memory", lambda: None)


def run(rows, budget=100.0, ratios=()):
    written = []
    results = run_rows(rows, ratios, budget, 1e9, written.append)
    return results, written


def test_a_row_that_does_not_fit_is_left_out_and_a_cheaper_one_still_runs():
    dear = Row("dear", "Dear", lambda: {"images_per_s": 1.0}, flops=1e12)
    cheap = Row("cheap", "Cheap", lambda: {"images_per_s": 2.0}, flops=1e9)
    results, _ = run([dear, cheap])
    assert results[0]["left_out"] == "takes about 2503 s, and 100 s of the budget are left"
    assert results[1]["images_per_s"] == 2.0


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried 3 GiB\nmore"),
            "out of memory: CUDA out of memory. Tried 3 GiB",
        ),
        (ValueError("bad shape"), "ValueError: bad shape"),
        (RuntimeError(), "RuntimeError"),
    ],
)
def test_an_error_is_that_rows_result_and_the_rest_continues(error, message):
    def fail():
        raise error

    results, written = run([Row("a", "A", fail), Row("b", "B", lambda: {"images_per_s": 3.0})])
    assert results[0]["error"] == message
    assert results[1]["images_per_s"] == 3.0
    assert written == results


def test_a_ratio_is_written_when_its_second_side_is_there():
    rows = [Row(name, name, lambda value=value: {"x": value}) for name, value in (("a", 6.0), ("b", 2.0), ("c", 1.0))]
    _, written = run(rows, ratios=[Ratio("a", "b", "x", 2.0)])
    assert [line.get("row") or line["ratio"] for line in written] == ["a", "b", "a / b", "c"]
    assert written[2]["value"] == 3.0


RESULTS = [
    {"row": "projector", "title": "Ours", "images_per_s": 40.0, "step_s": 0.4, "mfu": 0.7, "peak_gib": 50.0},
    {"row": "transformers", "title": "Theirs", "images_per_s": 20.0, "step_s": 0.8},
    {"row": "lora", "title": "LoRA", "error": "out of memory: 3 GiB"},
]


def test_the_table_has_figures_goals_and_what_failed():
    text = gpu_rows.table(RESULTS, "llava-1.5-7b", markdown=True)
    assert "| Ours | 40.0 | 36 | 400 | 70.0% | 50.0 |" in text
    assert "| projector / transformers, images_per_s | 2.00 | 1.55 |" in text
    assert "Failed: LoRA: out of memory: 3 GiB." in text
    assert " 36 " not in gpu_rows.table(RESULTS, "tiny", markdown=False), "goals are those of 7B"


def test_an_unknown_row_and_a_missing_gpu_are_one_line(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit) as stopped:
        gpu.main([])
    assert stopped.value.code == 2
    assert "shape llava-1.5-7b needs a GPU, and PyTorch finds none; use --shape tiny" in capsys.readouterr().err
    with pytest.raises(gpu_rows.ConfigError, match="--rows has speed; rows are a, b"):
        gpu_rows.chosen_rows([Row("a", "", dict), Row("b", "", dict)], "a, speed")
