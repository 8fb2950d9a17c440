"""A run's files become a page that names steps, samples and sources."""

import dataclasses
import doctest
import json
import math
from pathlib import Path

import pytest

from configs.load import to_yaml
from configs.run_dir import RunDir
from configs.training import MonitorConfig
from train.data.order import EpochOrder
from train.loggers.types import make_event
from train.plan import make_plan
from train.spikes.monitor import SpikeMonitor
from train.tools import postmortem, postmortem_page


def write_run(training_setup, name: str, spike_at: int | None) -> RunDir:
    """A made-up history of 100 steps, judged by the real monitor."""
    run = RunDir(training_setup.root / "runs" / name)
    run.root.mkdir(parents=True)
    config = training_setup.config(name)
    run.config.write_text(to_yaml(config))
    monitor, metrics, events = SpikeMonitor(MonitorConfig()), [], []
    for step in range(1, 101):
        loss = (2 + 0.1 * math.sin(step)) * (9 if step == spike_at else 1)
        by_source = {"pictures": loss, "talk": 1.0 + 0.01 * (step % 9)}
        metrics.append({"step": step, "loss": loss, "grad_norm": 1 + 0.1 * (step % 5), "loss_by_source": by_source})
        for alert in monitor.observe(step, by_source, None):
            steps = {"data_steps": [alert.steps.start - 1, alert.steps[-1] - 1]}
            events.append(make_event(step, alert.kind, alert.message(), signal=alert.signal, **steps))
    run.metrics.write_text("".join(json.dumps(line) + "\n" for line in metrics) + '{"step": 10')
    run.events.write_text("".join(json.dumps(event) + "\n" for event in events))
    return run


@pytest.fixture(scope="module")
def runs(training_setup) -> tuple[RunDir, RunDir]:
    return write_run(training_setup, "spiky", 60), write_run(training_setup, "calm", None)


@pytest.mark.slow
def test_the_flagged_steps_samples_are_those_of_the_order(training_setup, runs, capsys):
    postmortem.main([str(runs[0].root), "--samples", "8"])
    output = capsys.readouterr().out
    plan = make_plan(training_setup.config("spiky"), 1, "cpu")
    epoch, step = divmod(59, plan.length.steps_per_epoch)
    positions = EpochOrder.of(plan.order.mixture, plan.config.seed, epoch).step(step, plan.config.train.global_batch)
    assert "data step 59: loss/pictures: outlier at step 60" in output
    assert "data step 58: the step before" in output
    assert "alarms by signal: loss/pictures 1" in output
    listed = output.split("data step 59:")[1]
    assert all(plan.sources.record(position).id in listed for position in positions)


def test_samples_behind_a_url_come_through_the_configured_cache(training_setup, runs, tmp_path):
    config = training_setup.config("spiky")
    there = f"file://{Path(config.data.shards).absolute()}"
    data = dataclasses.replace(config.data, shards=there, cache_dir=str(tmp_path / "cache"))
    (tmp_path / "config.yaml").write_text(to_yaml(dataclasses.replace(config, data=data)))
    found = postmortem_page.samples_of(RunDir(tmp_path), [59], 8)
    assert found == postmortem_page.samples_of(runs[0], [59], 8)
    assert list((tmp_path / "cache").glob("*/*.tar"))


@pytest.mark.slow
def test_the_page_is_self_contained_and_shows_curve_marks_and_pictures(runs):
    postmortem.main([str(runs[0].root)])
    page = runs[0].postmortem.read_text()
    assert page.count("<svg") == 2
    assert page.count("data:image/jpeg;base64,") == 15  # one of the 16 samples has no image
    assert "No held-out loss was measured." in page
    assert "<title>loss/pictures: outlier at step 60" in page
    assert "http" not in page
    assert "Both runs" not in page


@pytest.mark.slow
def test_two_runs_are_drawn_into_one_plot(runs):
    postmortem.main([str(runs[0].root), str(runs[1].root)])
    both = runs[0].postmortem.read_text().split("<h2 ")[2]
    assert ">Both runs</h2>" in both
    assert both.count('<g class="curve">') == 2
    assert ">spiky<" in both
    assert ">calm<" in both


def test_a_run_without_alarms_or_without_shards_is_still_shown(runs, capsys):
    postmortem.main([str(runs[1].root)])
    assert "alarms by signal: none" in capsys.readouterr().out
    page = runs[1].postmortem.read_text()
    assert "The monitor raised no alarm, and no update was skipped." in page
    assert "No alarm to mark." in page
    event = {"step": 0, "kind": "freeze_table", "message": "1 of 2 parameters"}
    history = dataclasses.replace(postmortem_page.RunHistory.of(runs[1].root), events=[event, {"kind": "torn"}])
    page = postmortem_page.Page("", postmortem_page._events(history)).markdown()
    assert "All 2 events" in page and "| 0 | freeze table | 1 of 2 parameters |" in page


def test_a_folder_without_a_run_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        postmortem.main([str(tmp_path)])
    assert stopped.value.code == 2
    assert "holds no run" in capsys.readouterr().err


def test_the_examples_in_the_docstrings_hold():
    assert doctest.testmod(postmortem_page).failed == 0
    assert doctest.testmod(postmortem_page).attempted >= 1


@pytest.mark.parametrize("losses", [[], [math.nan, math.nan]])
def test_a_run_without_a_finite_loss_has_a_page_too(training_setup, capsys, losses):
    run = RunDir(training_setup.root / "runs" / f"never-{len(losses)}")
    run.root.mkdir(parents=True)
    run.config.write_text(to_yaml(training_setup.config(run.root.name)))
    lines = [{"step": n + 1, "loss": x, "grad_norm": x, "loss_by_source": {"talk": x}} for n, x in enumerate(losses)]
    run.metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
    events = [make_event(n + 1, "skipped", "update not made") for n in range(len(losses))]
    run.events.write_text("".join(json.dumps(event) + "\n" for event in events))
    postmortem.main([str(run.root)])
    assert f"{len(losses)} steps; lowest loss nan" in capsys.readouterr().out
    assert run.postmortem.is_file()
