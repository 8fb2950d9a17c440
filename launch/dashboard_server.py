"""A dashboard on a W&B server: a saved workspace view and a report, created or updated through wandb-workspaces."""

from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from configs.errors import ConfigError, RunError, kind_and_line
from launch.dashboard_panels import MATRIX_CHART, MATRIX_COLUMNS, X_AXIS, Panel, Section

INSTALL = "pip install 'vlm-classify[dashboard]'"


def missing_package() -> str | None:
    """Why nothing can be sent from here, with the command that helps; None if the package is installed."""
    if find_spec("wandb_workspaces") is None:
        return f"the package wandb-workspaces is not installed: {INSTALL}"
    return None


class DashboardServer:
    """The workspace view and the report of one project."""

    def __init__(self, project: str, entity: str | None):
        """Of `entity`, by default the one that the key belongs to. Raises `RunError` if it cannot be asked for."""
        self._views = import_module("wandb_workspaces.workspaces")
        self._reports = import_module("wandb_workspaces.reports.v2")
        self.project = project
        self.entity = entity or _of_server("your default entity", lambda: import_module("wandb").Api().default_entity)
        if not self.entity:
            raise ConfigError("the W&B key has no default entity; give the team or user with --entity")

    def save_workspace(self, title: str, sections: Sequence[Section], url: str | None) -> str:
        """Replace the sections of the view at `url`, or create one; returns its URL. Raises `RunError`."""
        view = (
            self._views.Workspace(entity=self.entity, project=self.project, name=title)
            if url is None
            else _of_server(f"the workspace {url}", lambda: self._views.Workspace.from_url(url))
        )
        view.name = title
        view.sections = [
            self._views.Section(name=section.name, panels=list(map(self._panel, section.panels)), is_open=True)
            for section in sections
        ]
        return str(_of_server("the workspace", view.save).url)

    def save_report(self, title: str, sections: Sequence[Section], url: str | None) -> str:
        """Replace the content of the report at `url`, or create one; returns its URL. Raises `RunError`."""
        report = (
            self._reports.Report(entity=self.entity, project=self.project, title=title)
            if url is None
            else _of_server(f"the report {url}", lambda: self._reports.Report.from_url(url))
        )
        report.title, report.width = title, "fluid"
        report.blocks = [block for section in sections for block in self._blocks(section)]
        return str(_of_server("the report", report.save).url)

    def _blocks(self, section: Section) -> list[Any]:
        """Heading, text and panels, two in a row."""
        kind = self._reports
        panels = [self._panel(panel) for panel in section.panels]
        for number, panel in enumerate(panels):
            panel.layout = kind.Layout(x=12 * (number % 2), y=8 * (number // 2), w=12, h=8)
        runs = kind.Runset(entity=self.entity, project=self.project)
        return [kind.H2(section.name), kind.P(section.about), kind.PanelGrid(runsets=[runs], panels=panels)]

    def _panel(self, panel: Panel) -> Any:
        if panel.table is not None:
            return self._reports.WeavePanelSummaryTable(table_name=panel.table)
        if panel.matrix is not None:
            return self._reports.CustomChart(
                query={"summaryTable": {"tableKey": panel.matrix}},
                chart_name=MATRIX_CHART,
                chart_fields={column: column for column in MATRIX_COLUMNS},
                chart_strings={"title": panel.title},
            )
        return self._reports.LinePlot(
            title=panel.title,
            x=X_AXIS,
            y=list(panel.metrics),
            metric_regex=panel.pattern,
            log_y=panel.log_y or None,
        )


def _of_server(what: str, ask: Callable[[], Any]) -> Any:
    """What `ask` returns. Raises `RunError` with W&B's reason in one line; its errors have no common base."""
    try:
        return ask()
    except Exception as error:
        raise RunError(
            f"W&B refuses {what}: {kind_and_line(error)}; check WANDB_API_KEY (or `wandb login`), --project "
            "and --entity"
        ) from error
