"""Metrics, alerts and flagged samples of a training in Weights & Biases, through a `WandbSession`."""

from collections.abc import Callable
from typing import Any

from configs.run_dir import RunDir
from configs.saving import LoggingConfig
from train.loggers.flattening import flattened
from train.loggers.jsonl import read_records
from train.loggers.shown_alerts import FLAGGED_COLUMNS, flagged_rows, is_shown
from train.loggers.types import Record, make_event
from train.loggers.wandb_session import WandbRun, WandbSession

FLAGGED_TABLE = "flagged_samples"
ALERT_COUNT = "alerts"


class WandbLogger:
    """Weights & Biases: steps as metrics, what the monitor finds as alerts and as a table of samples."""

    def __init__(self, config: LoggingConfig, run: RunDir, about: WandbRun, on_event: Callable[[Record], None]):
        """Continue W&B run `about.id`, or open it. `on_event` receives W&B's own problems, from another thread."""
        self._run, self._step = run, 0
        self._alerts = sum(map(is_shown, read_records(run.events)))
        self._flagging, self._table_after = 0, 1
        self._session = WandbSession(
            config, run.root, about, lambda kind, message: on_event(make_event(self._step, kind, message))
        )

    def log_step(self, record: Record) -> None:
        """Log the step; nested records become `name/key`."""
        self._step = record["step"]
        self._log(flattened(record))

    def log_event(self, record: Record) -> None:
        """What is shown becomes a W&B alert and is counted; samples that it names go into the table.

        The table is uploaded whole, so it is whenever the number of flagging events has doubled, and at the end.
        """
        if is_shown(record):
            title, text = f"{record['kind']} at step {record['step']}", str(record["message"])
            self._session.submit(lambda _, run: run.alert(title=title, text=text))
            self._alerts += 1
            self._log({"step": record["step"], ALERT_COUNT: self._alerts})
        if record.get("samples"):
            self._flagging += 1
            if self._flagging >= self._table_after:
                self._table_after = 2 * self._flagging
                self._log_flagged(record["step"])

    def close(self) -> None:
        """Upload the table if it has grown, finish the W&B run; say how an offline one is uploaded."""
        if 2 * self._flagging > self._table_after:
            self._log_flagged(self._step)
        self._session.close()

    def _log(self, values: dict[str, Any]) -> None:
        self._session.submit(lambda _, run: run.log(values))

    def _log_flagged(self, step: int) -> None:
        """The samples of all starts of the run, from its events.jsonl."""

        def log(wandb: Any, run: Any) -> None:
            rows = flagged_rows(read_records(self._run.events))
            table = wandb.Table(columns=list(FLAGGED_COLUMNS), data=rows)
            run.log({"step": step, FLAGGED_TABLE: table})

        self._session.submit(log)
