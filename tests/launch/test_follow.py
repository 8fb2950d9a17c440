"""Checkpoints evaluated as they appear, with a stand-in for the evaluation: what is run, kept, skipped and exported."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from configs.errors import ConfigError, RunError
from configs.run_dir import RunDir, step_name
from launch import follow_steps
from launch.follow import follow, main
from launch.follow_curve import best_point, comparable
from launch.follow_steps import Follower, follower_of

ACCURACY = {2: 0.25, 4: 0.75, 6: 0.5, 8: 0.75}


class Programs:
    """Stands in for `eval.run` and `eval.choose`: exports and reports, and remembers its calls."""

    def __init__(self, run: RunDir):
        self.run_dir, self.calls, self.fails = run, [], set()

    def run(self, argv, check):
        if "eval.choose" in argv:
            self.calls.append("choose")
            return SimpleNamespace(returncode=0)
        step = int(argv[-1].partition("=")[2])
        self.calls.append(step)
        self.run_dir.export_of(step).mkdir(exist_ok=True)
        if step in self.fails or not self.run_dir.checkpoint(step).is_dir():
            return SimpleNamespace(returncode=2)
        folder = self.run_dir.evaluation("pets") / step_name(step)
        folder.mkdir(parents=True, exist_ok=True)
        value = ACCURACY[step]
        rate = {"value": value, "low": value - 0.1, "high": value + 0.1, "n": 16}
        (folder / "report.json").write_text(json.dumps({"accuracy": rate, "items": {"failed": 0, "missing": 0}}))
        return SimpleNamespace(returncode=0)


@pytest.fixture
def run(tmp_path):
    """A run that has ended, with checkpoints of steps 2 to 8, and an export."""
    run = RunDir(tmp_path / "runs/flowers")
    run.export.mkdir(parents=True)
    (run.export / "export.json").write_text("{}")
    run.config.write_text(
        "name: flowers\nmodel: {base: hub/model}\n"
        "data: {sources: {a: {reader: image_folder, path: x}}}\ntrain: {sources: [a]}\n"
    )
    run.metrics.write_text("")
    end = {"start": "2026-01-01T00:00:00Z", "end": "2026-01-01T01:00:00Z", "outcome": "finished"}
    run.provenance.write_text(json.dumps([end]))
    for step in ACCURACY:
        add_checkpoint(run, step)
    return run


def add_checkpoint(run, step, content="first"):
    run.checkpoint(step).mkdir(parents=True, exist_ok=True)
    (run.checkpoint(step) / "manifest.json").write_text(content)


@pytest.fixture
def programs(run, monkeypatch):
    found = Programs(run)
    monkeypatch.setattr(follow_steps.subprocess, "run", found.run)
    return found


def follower(run, every=1):
    return Follower(run, "pets", Path("pets.yaml"), [], every)


def run_once(one, best=False):
    follow(one, interval=0.001, once=True, best=best)


@pytest.mark.slow
def test_every_checkpoint_is_evaluated_once_and_the_curve_is_written(run, programs, capsys):
    run_once(follower(run))
    run_once(follower(run))
    assert programs.calls == [2, 4, 6, 8]
    assert not any(run.export_of(step).exists() for step in ACCURACY), "exported weights are deleted afterwards"
    curve = json.loads((run.evaluation("pets") / "accuracy.json").read_text())
    assert [(point["step"], point["value"]) for point in curve["points"]] == list(ACCURACY.items())
    assert curve["best"]["step"] == 4, "of equal ones the first"
    assert "step 6: 50.0 % (40.0 to 60.0 %), n = 16" in capsys.readouterr().out
    index = (run.root.parent / "index.html").read_text()
    assert "accuracy.html" in index and "best steps, equally good, 4 and 8: 75.0" in index.replace("\xa0", " ")


def test_only_steps_that_the_interval_divides_are_evaluated(run, programs):
    run_once(follower(run, every=4))
    assert programs.calls == [4, 8]


def test_a_checkpoint_without_its_manifest_is_not_complete_and_waits(run, programs):
    (run.checkpoint(8) / "manifest.json").unlink()
    run_once(follower(run))
    assert programs.calls == [2, 4, 6]


@pytest.mark.slow
def test_the_weights_of_the_best_checkpoint_are_kept_and_exported_at_the_end(run, programs):
    run.export_of(6).mkdir()  # somebody else's, who may want it
    follow(follower(run), interval=0.001, once=False, best=True)
    assert [step for step in ACCURACY if run.export_of(step).exists()] == [4, 6]
    assert programs.calls == [2, 4, 6, 8, "choose"]


@pytest.mark.slow
def test_an_export_that_a_killed_start_left_is_deleted_by_the_next(run, programs, monkeypatch):
    def killed(argv, check):
        programs.run(argv, check)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(follow_steps.subprocess, "run", killed)
        with pytest.raises(KeyboardInterrupt):
            run_once(follower(run))
    assert run.export_of(2).exists()
    run_once(follower(run))
    assert programs.calls == [2, 4, 6, 8] and not run.export_of(2).exists()


@pytest.mark.slow
def test_an_export_of_the_last_checkpoint_that_a_killed_start_left_is_deleted_too(run, programs, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(Follower, "delete_exports", lambda self, state, keep_best: None)  # killed before it
        run_once(follower(run))
    assert run.export_of(8).exists()
    run_once(follower(run))
    assert programs.calls == [2, 4, 6, 8] and not any(run.export_of(step).exists() for step in ACCURACY)


def test_a_checkpoint_deleted_while_another_was_evaluated_is_listed(run, programs):
    event = '{"kind": "checkpoint", "step": %d}\n'
    run.events.write_text("".join(event % step for step in (2, 3, 4, 6, 8)) + '{"kind": "checkp')
    shutil.rmtree(run.checkpoint(6))
    one = follower(run, every=2)
    run_once(one)
    shutil.rmtree(run.checkpoint(2))  # evaluated before
    run_once(again := follower(run, every=2))
    assert [list(found.skipped) for found in (one, again)] == [[6], [6]]
    assert "raise checkpoint.keep_last" in (run.evaluation("pets") / "accuracy.html").read_text().replace("<wbr>", "")


def test_an_evaluation_that_ends_well_without_a_report_is_not_repeated_for_ever(run, programs, monkeypatch):
    monkeypatch.setattr(follow_steps.subprocess, "run", lambda argv, check: SimpleNamespace(returncode=0))
    one = follower(run)
    with pytest.raises(RunError, match="2 evaluations failed"):
        run_once(one)
    assert set(one.skipped.values()) == {"the evaluation ended without a complete report"}


@pytest.mark.slow
def test_other_settings_of_the_evaluation_are_refused_under_the_same_name(run, programs, tmp_path):
    file = tmp_path / "pets.yaml"
    file.write_text("name: pets\nmodel: x\nsource: a\nprotocol: {task: open_world}\n")
    run_once(follower_of(run.root, file, ["limit=16"], 4))
    run_once(follower_of(run.root, file, ["limit=16", "batch_size=3"], 2))
    with pytest.raises(ConfigError, match=r"evaluated as pets with limit 16, not 8, .* --set name="):
        run_once(follower_of(run.root, file, ["limit=8"], 1))
    assert programs.calls == [4, 8, 2, 6]


@pytest.mark.slow
def test_a_checkpoint_that_was_trained_again_is_evaluated_again(run, programs, capsys):
    run_once(follower(run))
    add_checkpoint(run, 6, "after a rollback")
    programs.calls.clear()
    run_once(follower(run))
    assert programs.calls == [6]
    assert "step 6 was trained again" in capsys.readouterr().out
    assert len(list(run.evaluation("pets").glob(".step-00000006-*/report.json"))) == 1


@pytest.mark.slow
def test_a_checkpoint_deleted_before_its_evaluation_is_skipped_and_said(run, programs, monkeypatch):
    def pruned(argv, check):
        if argv[-1] == "checkpoint=4":
            shutil.rmtree(run.checkpoint(4))
        return programs.run(argv, check)

    monkeypatch.setattr(follow_steps.subprocess, "run", pruned)
    one = follower(run)
    run_once(one)
    assert one.failed == 0
    page = (run.evaluation("pets") / "accuracy.html").read_text().replace("<wbr>", "")
    assert "raise checkpoint.keep_last" in page


@pytest.mark.slow
def test_a_failed_evaluation_is_counted_and_several_end_the_program(run, programs):
    programs.fails = {4}
    one = follower(run)
    run_once(one)
    assert one.failed == 1 and programs.calls == [2, 4, 6, 8]
    programs.fails = {4, 6}
    shutil.rmtree(run.evaluation("pets"))
    with pytest.raises(RunError, match="2 evaluations failed, the last of step 6"):
        run_once(follower(run))


def test_checkpoints_with_other_numbers_of_items_are_not_compared():
    points = [
        {"step": step, "value": value, "n": n, "missing": missing}
        for step, value, n, missing in ((2, 0.5, 16, 0), (4, 0.9, 8, 0), (6, 0.6, 16, 0), (8, 0.8, 16, 3))
    ]
    assert [point["step"] for point in comparable(points)] == [2, 6]
    assert best_point(points)["step"] == 6
    assert best_point([]) is None


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--every", "0"], "--every is 0"),
        (["--set", "checkpoint=all"], "--set checkpoint: this program sets it"),
        (["--set", "limt=3"], "unknown key 'limt'"),
        (["--interval", "0"], "--interval is 0"),
    ],
)
def test_a_mistake_is_one_line(run, tmp_path, capsys, more, message):
    file = tmp_path / "pets.yaml"
    file.write_text("name: pets\nmodel: x\nsource: a\n")
    with pytest.raises(SystemExit) as left:
        main([str(run.root), "--config", str(file), *more])
    assert left.value.code == 2 and message in capsys.readouterr().err


def test_a_run_that_has_not_begun_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main([str(tmp_path), "--config", "configs/eval/demo_open_world.yaml"])
    assert "start the training first" in capsys.readouterr().err


def test_the_evaluation_is_one_of_the_run_whatever_its_file_names(run, tmp_path):
    file = tmp_path / "pets.yaml"
    file.write_text("name: pets\nmodel: other\nsource: a\noutput: elsewhere\n")
    text = follower_of(run.root, file, ["limit=16"], 1).plan_text()
    assert f'model="{run.root}"' in text and "output=null" in text and "--set limit=16" in text
