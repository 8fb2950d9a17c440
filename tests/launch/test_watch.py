"""The state of a run is read from its files, whole or half-written."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from configs.errors import RunError
from configs.eval_dir import EvalDir
from configs.run_dir import CheckpointDir, RunDir
from launch import watch
from launch.watch import eta_text, follow, state, step_line, tail

CONFIG = """
name: x
data: {sources: {toy: {reader: toy_world}}}
model: {base: x}
train: {sources: [toy], epochs: 2}
"""


def step(number: int, **more: Any) -> dict[str, Any]:
    return {"step": number, "loss": 2.0 / number, "grad_norm": 0.5, "samples_per_s": 8.0, "step_s": 2.0, **more}


def append(file: Path, *records: dict[str, Any], end: str = "\n") -> None:
    with file.open("a") as stream:
        stream.write("\n".join(json.dumps(record) for record in records) + end)


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir(tmp_path)


def test_a_run_shows_its_last_step_with_the_time_left(run: RunDir) -> None:
    run.config.write_text(CONFIG)
    append(run.metrics, *(step(number, epoch=number / 950) for number in range(1, 101)))
    text = "\n".join(state(run))
    assert "step 100  epoch 0.1053  loss 0.02  grad_norm 0.5  samples/s 8  ETA 1:00:00  of 1900 steps" in text
    assert "step 99 " not in text


def test_a_run_that_stops_early_ends_there(run: RunDir) -> None:
    run.config.write_text(CONFIG.replace("epochs: 2", "epochs: 2, max_steps: 300"))
    append(run.metrics, step(100, epoch=100 / 950))
    assert "of 300 steps" in "\n".join(state(run))


def test_a_run_that_saved_for_a_signal_says_that_it_continues(run: RunDir) -> None:
    run.requeue.touch()
    assert any("stopped by a signal after saving" in line for line in state(run))


def test_without_a_known_total_there_is_no_time_left(run: RunDir) -> None:
    append(run.metrics, step(1, epoch=0.1))
    assert "ETA" not in "\n".join(state(run))


def test_the_time_left_follows_the_median_not_the_slowest_step() -> None:
    assert eta_text([step(1), step(2, step_s=900.0), step(3)], 13) == "0:00:20"


def test_a_finished_run_has_no_time_left() -> None:
    assert eta_text([step(13)], 13) == ""


def test_checkpoints_export_and_evaluations_are_listed(run: RunDir) -> None:
    for number in (500, 1000):
        run.checkpoint(number).mkdir(parents=True)
    CheckpointDir(run.checkpoint(500)).manifest.touch()
    run.export.mkdir()
    done, going = (EvalDir(run.evaluation(name) / "export") for name in ("done", "going"))
    for evaluation in (done, going):
        evaluation.root.mkdir(parents=True)
    done.report("json").write_text("{}")
    for worker in (0, 1):
        going.predictions(worker).write_text("{}\n{}\n")
    text = "\n".join(state(run))
    assert "checkpoints: step-00000500, step-00001000 (incomplete)" in text
    assert f"export: {run.export}" in text
    assert "evaluation done, export: reported in" in text
    assert "evaluation going, export: 4 answers so far" in text


def test_a_run_that_has_not_begun_says_so(run: RunDir) -> None:
    assert state(run)[1:] == ["no step yet", "checkpoints: none", "export: none"]


def test_a_missing_folder_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="there is no run folder"):
        state(RunDir(tmp_path / "none"))


def test_a_half_written_last_line_waits_for_its_end(run: RunDir) -> None:
    append(run.metrics, step(1))
    append(run.metrics, step(2), end="")
    records, end = tail(run.metrics)
    assert [record["step"] for record in records] == [1]
    append(run.metrics, step(3), end="\n")  # the end of line 2 was lost: the line is damaged, not the file
    append(run.metrics, step(4))
    assert [record["step"] for record in tail(run.metrics, end)[0]] == [4]


def test_only_the_end_of_a_long_file_is_read(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "TAIL_BYTES", 300)
    append(run.metrics, *(step(number) for number in range(1, 1001)))
    records, _ = tail(run.metrics)
    assert 0 < len(records) < 5
    assert records[-1]["step"] == 1000


def test_a_file_cut_back_by_a_resume_is_read_on(run: RunDir) -> None:
    append(run.metrics, step(1), step(2))
    _, end = tail(run.metrics)
    run.metrics.write_text(json.dumps(step(1)) + "\n")
    records, end = tail(run.metrics, end)
    assert records == []
    append(run.metrics, step(2))
    assert [record["step"] for record in tail(run.metrics, end)[0]] == [2]


def test_losses_of_several_sources_are_shown_next_to_the_total() -> None:
    line = step_line(step(1, loss_by_source={"imagenet": 1.25, "llava": 3.0}))
    assert line.endswith("(imagenet 1.25, llava 3)")


def test_a_loss_that_is_no_number_is_shown_as_such() -> None:
    assert "loss nan" in step_line({"step": 1, "loss": float("nan")})


def test_messages_cannot_steer_the_terminal(run: RunDir) -> None:
    append(run.events, {"time": 0, "step": 3, "kind": "spike", "message": "\x1b[2Jgone"})
    text = "\n".join(state(run))
    assert "\x1b" not in text
    assert "?[2Jgone" in text


def test_a_message_of_several_lines_shows_its_first(run: RunDir) -> None:
    append(run.events, {"time": "12:00", "step": 0, "kind": "freeze_table", "message": "part  lr\nprojector  1"})
    assert state(run)[-1] == "  12:00  step 0  freeze_table  part  lr ..."


def test_following_yields_what_is_written_from_now_on(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    append(run.metrics, step(1))
    writes = iter(
        [
            lambda: append(run.metrics, step(2), step(3)),
            lambda: append(run.events, {"time": 0, "step": 3, "kind": "checkpoint", "message": "saved"}),
        ]
    )
    monkeypatch.setattr(time, "sleep", lambda seconds: next(writes)())
    lines = follow(run, 1.0)
    assert [next(lines).split("  ")[0] for _ in range(2)] == ["step 2", "step 3"]
    assert next(lines).endswith("step 3  checkpoint  saved")


def test_the_command_ends_with_2_for_a_missing_run(
    run_main: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_main(watch.main, str(tmp_path / "none")) == 2
    assert capsys.readouterr().err.startswith("error: there is no run folder")


def test_a_folder_of_runs_is_an_error_that_names_them(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        RunDir(tmp_path / name).config.write_text(CONFIG)
    with pytest.raises(RunError, match=r"it is a folder of runs; name one of them: a, b$"):
        state(RunDir(tmp_path))
