"""The dashboard: its panels show metrics that are really logged, as a file and on a server (a fake)."""

import inspect
import json
import re
import sys
from types import SimpleNamespace
from typing import Any

import pytest

import train.trainer
from eval.reports import tracked_values, wandb_upload
from launch import dashboard, dashboard_server
from launch.dashboard_panels import MATRIX_CHART, MATRIX_COLUMNS, X_AXIS, Panel, sections
from train.loggers.flattening import flattened
from train.loggers.step_record import step_record
from train.loggers.wandb_logger import ALERT_COUNT, FLAGGED_TABLE

RATE = {"value": 0.5, "low": 0.4, "high": 0.6, "count": 5, "n": 10}
REPORT = {
    "name": "pets",
    "accuracy": RATE,
    "no_answer": RATE,
    "items": {"answered": 10, "failed": 0, "missing": 0},
    "label": "export",
    "classes": [{"label": 0, "name": "cat", "correct": 1, "wrong": 1, "no_answer": 1, "frequency": None}],
    "confusions": [{"class": "cat", "predicted_as": "dog", "count": 1, "n": 3}],
    "confusion_matrix": {"rows": ["cat"], "columns": ["cat"], "counts": [[1]]},
    "examples": [{"id": "a", "answer": "", "target": "", "value": True, "extracted": "", "reason": ""}],
}


def logged_metrics() -> set[str]:
    """Every name that a logger writes: of the step record, of what the trainer adds to it, and of an evaluation."""
    totals = SimpleNamespace(
        loss=1,
        tokens=1,
        supervised=1,
        samples=1,
        without_targets=0,
        unreadable=0,
        by_source={"mix": 1.0},
        probe_loss=None,
    )
    record: dict[str, Any] = step_record(totals, SimpleNamespace(grad_norm=1, rms=1, applied=False), 1.0, 0.1)  # type: ignore[arg-type]
    source = inspect.getsource(train.trainer.Trainer)
    added = set(re.findall(r'record\["(\w+)"\] = ', source)) | set(re.findall(r'^ +"(\w+)": ', source, re.MULTILINE))
    nested = {"lr": {"projector": 0.1}, "heldout_loss": {"unseen": 1.0}}
    record |= {name: nested.get(name, 1) for name in added}
    return {*flattened(record), *tracked_values.numbers(REPORT), ALERT_COUNT}


def all_panels(*evaluations: str) -> list[Panel]:
    return [panel for section in sections(evaluations) for panel in section.panels]


@pytest.mark.parametrize("panel", [panel for panel in all_panels() if panel.metrics or panel.pattern], ids=repr)
def test_each_curve_is_of_metrics_that_the_loggers_write(panel):
    written = logged_metrics()
    assert set(panel.metrics) <= written
    if panel.pattern:
        assert any(re.search(panel.pattern, name) for name in written)


def test_what_training_must_show_is_on_a_panel():
    shown = {name for panel in all_panels() for name in panel.metrics}
    patterns = [panel.pattern for panel in all_panels() if panel.pattern]
    rest = {name for name in logged_metrics() - shown if not any(re.search(pattern, name) for pattern in patterns)}
    assert X_AXIS in rest
    wanted = {"grad_norm", "mfu", "samples_per_s", "data_wait_s", "peak_memory_bytes", "alerts", "loss"}
    assert wanted <= shown
    assert not {"loss_by_source/mix", "heldout_loss/unseen", "lr/projector", "eval/pets/accuracy_low"} & rest


def test_each_table_is_one_that_is_uploaded(monkeypatch):
    monkeypatch.setattr(wandb_upload, "_seen", lambda config, report: {})
    wandb = SimpleNamespace(Table=lambda **_: "table", plot_table=lambda *given: given)
    uploaded = wandb_upload._tables(wandb, None, REPORT)  # type: ignore[arg-type]
    tables = {panel.table for panel in all_panels("pets") if panel.table}
    assert tables == {FLAGGED_TABLE, *uploaded} - {"eval/pets/confusion_matrix"}
    assert uploaded["eval/pets/confusion_matrix"][0] == MATRIX_CHART
    assert MATRIX_COLUMNS == tracked_values.MATRIX_COLUMNS
    (matrix,) = [panel.matrix for panel in all_panels("pets") if panel.matrix]
    assert matrix == "eval/pets/confusion_matrix_table", "W&B appends _table to the key of a chart"


class Saved(SimpleNamespace):
    """Stands for a workspace, a report, and everything in them."""

    loaded: str | None = None
    fails = False
    log: list["Saved"]

    @classmethod
    def from_url(cls, url: str) -> "Saved":
        return cls(loaded=url)

    def save(self) -> "Saved":
        if self.fails:
            raise ValueError("permission denied\nand a trace")
        self.url = self.loaded or "https://wandb.example/new"
        Saved.log.append(self)
        return self


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> list[Saved]:
    """A server that takes everything; returns what was saved."""
    kinds = ("Workspace", "Section", "Report", "LinePlot", "WeavePanelSummaryTable", "CustomChart")
    fake = SimpleNamespace(
        **{kind: type(kind, (Saved,), {}) for kind in (*kinds, "Layout", "Runset", "PanelGrid")},
        H2=str,
        P=str,
    )
    for name in ("wandb_workspaces.workspaces", "wandb_workspaces.reports.v2"):
        monkeypatch.setitem(sys.modules, name, fake)
    monkeypatch.setattr(dashboard_server, "find_spec", lambda name: object())
    monkeypatch.setattr(dashboard, "missing_package", lambda: None)
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    monkeypatch.setattr(Saved, "log", [], raising=False)
    return Saved.log


def test_view_and_report_are_created_and_the_next_call_updates_them(server, tmp_path, capsys):
    file = tmp_path / "new" / "board.json"
    words = ["--project", "birds", "--entity", "us", "--evaluation", "pets", "--output", str(file)]
    dashboard.main(words)
    view, report = server
    assert (view.entity, view.project, view.loaded, report.loaded) == ("us", "birds", None, None)
    assert [section.name for section in view.sections] == [section.name for section in sections(["pets"])]
    curve = view.sections[1].panels[0]
    assert (curve.y, curve.x, curve.log_y) == (["grad_norm"], "step", True)
    assert report.blocks[0] == "Loss" and report.blocks[2].runsets[0].project == "birds"
    kept = json.loads(file.read_text())
    assert kept["workspace_url"] == kept["report_url"] == "https://wandb.example/new"
    dashboard.main(words)
    assert [saved.loaded for saved in server[2:]] == ["https://wandb.example/new"] * 2
    dashboard.main([*words, "--report", "https://wandb.example/other"])
    assert server[-1].loaded == "https://wandb.example/other"


def test_a_server_that_refuses_is_one_line_and_the_file_is_there(server, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(Saved, "fails", True)
    with pytest.raises(SystemExit) as ended:
        dashboard.main(["--entity", "us", "--output", str(tmp_path / "board.json")])
    assert ended.value.code == 2
    error = capsys.readouterr().err.strip()
    assert "W&B refuses the workspace: ValueError: permission denied" in error and "\n" not in error
    assert json.loads((tmp_path / "board.json").read_text())["workspace_url"] is None


@pytest.mark.parametrize("lacks", ["package", "key"])
def test_without_package_or_key_the_same_panels_are_in_the_file(lacks, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    installed = None if lacks == "package" else object()
    monkeypatch.setattr(dashboard_server, "find_spec", lambda name: installed)
    dashboard.main(["--project", "birds", "--output", str(tmp_path / "board.json")])
    found = json.loads((tmp_path / "board.json").read_text())
    assert (found["project"], found["entity"], found["x_axis"]) == ("birds", None, "step")
    panels = {panel["title"]: panel for section in found["sections"] for panel in section["panels"]}
    assert panels["Gradient norm"] == {"title": "Gradient norm", "metrics": ["grad_norm"], "log_y": True}
    assert panels["Loss by source"]["pattern"] == "^loss_by_source/.*$"
    assert len(panels) == len(all_panels())
    reason = {"package": "pip install 'vlm-classify[dashboard]'", "key": "set WANDB_API_KEY"}[lacks]
    assert reason in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--project", "a/b"], "which has /; W&B takes"),
        (["--project", ""], "0 characters"),
        (["--evaluation", "a/b"], "--evaluation is 'a/b'"),
        (["--output", "{tmp}/other.json"], "is not a dashboard's file"),
        (["--output", "{tmp}/list.json"], "is not a dashboard's file"),
        (["--output", "{tmp}/other.json/board.json"], "cannot be written"),
    ],
)
def test_a_mistake_is_one_line(words, message, tmp_path, capsys):
    (tmp_path / "other.json").write_text("{")
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(SystemExit) as ended:
        dashboard.main([word.replace("{tmp}", str(tmp_path)) for word in words])
    assert ended.value.code == 2
    error = capsys.readouterr().err.strip()
    assert message in error and "\n" not in error
    assert (tmp_path / "other.json").read_text() == "{"


def test_a_dry_run_prints_the_panels_and_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    dashboard.main(["--dry-run", "--evaluation", "pets"])
    assert "pets: sample predictions: eval/pets/predictions" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_package_takes_every_panel(monkeypatch):
    """With the real package: its objects check their fields, and turn into what the server takes."""
    pytest.importorskip("wandb_workspaces")
    made = dashboard_server.DashboardServer("birds", "us")
    view = made._views.Workspace(entity="us", project="birds", name="x")
    chosen = sections(["pets"])
    view.sections = [made._views.Section(name=one.name, panels=list(map(made._panel, one.panels))) for one in chosen]
    text = view._to_model().spec.model_dump_json(by_alias=True, exclude_none=True)
    for panel in all_panels("pets"):
        wanted = panel.metrics or (panel.pattern or panel.table or panel.matrix,)
        assert all(json.dumps(name)[1:-1] in text for name in wanted)
    monkeypatch.setattr(sys.modules[made._reports.Runset.__module__], "_get_api", lambda: SimpleNamespace())
    grids = [block for one in chosen for block in made._blocks(one)]
    assert len(grids) == 3 * len(chosen)
