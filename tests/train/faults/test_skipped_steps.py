"""Row 28, a NaN on one rank, and what else the gate, a rollback and the clip do: one launch (see skip_steps.py)."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).with_name("skip_steps.py")
CELLS = [f"{kind}-{dtype}-zero-{n}" for kind in ("loss", "gradient") for dtype in ("fp32", "bf16") for n in range(4)]


@pytest.fixture(scope="module")
def results(training_setup, deepspeed, tmp_path_factory) -> dict[str, Any]:
    output = tmp_path_factory.mktemp("faults") / "results.json"
    command = deepspeed(SCRIPT, training_setup.config_file("faults"), output)
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return json.loads(output.read_text())


def lines(cell: dict[str, Any], file: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (Path(cell["run"]) / file).read_text().splitlines()]


@pytest.mark.fault(28, "NaN on one rank, ZeRO 0-3 x fp32, bf16", "skipped on all, weights finite, counted, rank named")
def test_all_cells_stand_in_the_fault_table(results, seen):
    cells = [results[name] for name in CELLS]
    kept = sum(cell["unchanged"] and cell["on_all_ranks"] and cell["finite"] and cell["missed"] == 1 for cell in cells)
    named = [
        list(event["nonfinite_samples"])
        for name in CELLS
        if name.startswith("loss")
        for event in lines(results[name], "events.jsonl")
        if event["kind"] == "skipped"
    ]
    seen(f"{kept}/{len(CELLS)} skipped on both ranks, state unchanged and finite; rank named in {named.count(['1'])}/8")
    assert (kept, named) == (len(CELLS), [["1"]] * 8)


@pytest.mark.parametrize("name", CELLS)
def test_the_step_is_skipped_on_all_ranks_with_weights_moments_and_count_unchanged(results, name):
    cell = results[name]
    assert cell["unchanged"]
    assert cell["on_all_ranks"]
    assert cell["finite"]
    assert cell["moved_on"], "the steps after it are made"
    assert cell["updates"] == [4.0], "5 steps, one of them not"
    assert cell["missed"] == 1


@pytest.mark.parametrize("name", [name for name in CELLS if name.startswith("loss")])
def test_rank_and_sample_are_named(results, name):
    skipped = [event for event in lines(results[name], "events.jsonl") if event["kind"] == "skipped"]
    assert len(skipped) == 1
    assert skipped[0]["step"] == 3
    assert list(skipped[0]["nonfinite_samples"]) == ["1"]
    assert len(skipped[0]["nonfinite_samples"]["1"]) == 1
    assert f"rank 1: {skipped[0]['nonfinite_samples']['1'][0]}" in skipped[0]["message"]


@pytest.mark.parametrize("name", [name for name in CELLS if name.startswith("loss")])
def test_the_verdict_s_line_holds_the_step_s_samples(results, name):
    events = lines(results[name], "events.jsonl")
    nonfinite_sample = next(event for event in events if event["kind"] == "skipped")["nonfinite_samples"]["1"][0]
    alerts = [event for event in events if event["kind"] == "non_finite" and event["signal"].startswith("loss/")]
    assert any(nonfinite_sample in event["samples"]["2"] for event in alerts), "data step 2 is optimizer step 3"


@pytest.mark.parametrize("name", CELLS)
def test_the_monitor_says_non_finite_once_and_the_metrics_say_skipped(results, name):
    kinds = {event["kind"] for event in lines(results[name], "events.jsonl") if event["step"] == 3}
    assert {"non_finite", "skipped"} <= kinds
    assert [line["step"] for line in lines(results[name], "metrics.jsonl") if line.get("skipped")] == [3]


@pytest.mark.parametrize("cell", ["fp32-zero-0", "bf16-zero-0", "fp32-zero-1", "bf16-zero-2", "fp32-zero-3"])
def test_the_update_clip_takes_whole_parameters_in_every_stage(results, cell):
    """Recomputed from the full state before and after each step; in the last, one gradient grew a thousandfold."""
    seen = results[f"clip-{cell}"]
    assert seen["error"] < 1e-4, "of a learning rate"
    assert seen["least"] < 0.6


@pytest.mark.parametrize(
    "name", [f"rollback-{cell}" for cell in ("fp32-zero-0", "bf16-zero-0", "bf16-zero-2", "fp32-zero-3")]
)
def test_a_rollback_restores_the_state_skips_the_data_and_has_a_budget(results, name):
    """Trouble at steps 6 and 7 goes back to the checkpoint of step 4; that at 8 and 9 finds the budget spent."""
    cell = results[name]
    assert cell["restored"], "weights, moments and AdamW's count are those of step 4, on both ranks"
    assert cell["read"] == [[n, n] for n in range(7)] + [[4, 7], [5, 8], [6, 9], [7, 10], [8, 11]]
    assert cell["skipped"] == [[4, 7]]
    assert cell["lr_scale"] == 0.5
    assert cell["done"] == 9
    assert "monitor.max_rollbacks 1 were used" in cell["stopped"]
    assert cell["checkpoints"] == [0, 2, 4, 6, 8]
    attempts = [(line["step"], line.get("rollbacks")) for line in lines(cell, "metrics.jsonl")]
    assert attempts == [(n, None) for n in range(1, 8)] + [(n, 1) for n in range(5, 10)]
    back = next(event for event in lines(cell, "events.jsonl") if event["kind"] == "rolled_back")
    assert "from step 7 to the checkpoint of step 4, skipping data steps 4 to 6" in back["message"]


@pytest.mark.parametrize("cell", ["fp32-zero-0", "bf16-zero-2", "fp32-zero-3"])
def test_moments_can_start_again_after_a_rollback_and_the_rate_rises_again(results, cell):
    reset, kept = results[f"reset-{cell}"], results["rollback-fp32-zero-0"]
    assert reset["reset"] == [True, True], "weights of step 4, moments 0, AdamW counts from 0, on both ranks"
    assert kept["reset"] == [False, False], "unless it is asked for"
    rates, usual = ([line["lr"] for line in lines(results[name], "metrics.jsonl") if line.get("rollbacks") == 1]
                    for name in (f"reset-{cell}", "rollback-fp32-zero-0"))  # fmt: skip
    factors = [{part: rate[part] / full[part] for part in full} for rate, full in zip(rates, usual, strict=True)]
    assert [{round(part, 6) for part in factor.values()} for factor in factors] == [{0.25}, {0.5}, {0.75}, {1.0}, {1.0}]


@pytest.mark.parametrize("cell", ["fp32-zero-0", "bf16-zero-1", "fp32-zero-3"])
def test_a_run_with_a_skipped_step_resumes_bit_for_bit(results, cell):
    """AdamW has counted one update fewer than there were steps, which the checkpoint has to know."""
    seen = results[f"resumed-{cell}"]
    whole, resumed = seen["curves"]
    assert whole == resumed
    assert [step for step, *_ in whole] == list(range(1, 9))
    assert (seen["started"], seen["updates"], seen["missed"]) == (4, [7.0], 1)
