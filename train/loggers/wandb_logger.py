"""Weights & Biases in a background thread, so that an unreachable or slow server does not delay training.

Records wait in a queue while the run is opened. If the server has not answered by `START_TIMEOUT`, the run is kept
offline, one event says so, and `wandb sync` uploads it later. A server that is lost further on is W&B's own affair: it
writes everything to the run's folder first and tries again.
"""

import os
import queue
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.run_dir import RunDir
from configs.saving import LoggingConfig
from train.loggers.types import Record, make_event
from train.spikes.alerts import ALARMS, EPISODE_UPDATES, EVERY_STEP

START_TIMEOUT = 30.0  # seconds for the server to open the run; less than CLOSE_TIMEOUT, for runs that end before
FINISH_TIMEOUT = 20.0  # seconds for the last uploads
CLOSE_TIMEOUT = 45.0  # seconds for them and for records that still wait; the checkpoint is saved before
ALERTS = frozenset(
    (
        *ALARMS,
        *EPISODE_UPDATES,
        "skipped",
        "rolled_back",
        "stopped_by_monitor",
        "checkpoint_failed",
        "straggler",
        "loss_above_start",
        "nothing_trained",
    )
)


@dataclass(frozen=True)
class WandbRun:
    """The run as W&B knows it."""

    name: str
    id: str
    settings: Mapping[str, Any]


class WandbLogger:
    """Weights & Biases. The key comes from the environment only; argv, code and console are not uploaded."""

    def __init__(self, config: LoggingConfig, run: RunDir, about: WandbRun, on_event: Callable[[Record], None]):
        """Begin to continue W&B run `about.id`, or to open it; offline where request, or where there is no key.

        `on_event` receives an event, from another thread, if the server does not answer, and one if W&B itself fails.
        """
        import wandb

        self._wandb = wandb
        self._config, self._folder, self._about, self._on_event = config, run, about, on_event
        self._mode = config.wandb
        self._step = 0
        if self._mode == "online" and not _has_key():
            print("W&B: no WANDB_API_KEY: logging offline; `wandb sync` uploads it later", file=sys.stderr)
            self._mode = "offline"
        self._queue: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="wandb", daemon=True)
        self._thread.start()

    def log_step(self, record: Record) -> None:
        """Log the step; nested records become `name/key`."""
        self._step = record["step"]
        self._queue.put(("log", flattened(record)))

    def log_event(self, record: Record) -> None:
        """Verdicts of the monitor become W&B alerts: of those that come with every step of an episode, the first."""
        begins = record.get("since") in (None, record["step"])
        if record["kind"] in ALERTS and (begins or record["kind"] not in EVERY_STEP):
            title, text = f"{record['kind']} at step {record['step']}", str(record["message"])
            self._queue.put(("alert", (title, text)))

    def close(self) -> None:
        """Finish the W&B run, for which it has `CLOSE_TIMEOUT`; say how an offline one is uploaded."""
        self._queue.put(("finish", None))
        self._thread.join(CLOSE_TIMEOUT)
        if self._thread.is_alive() or self._mode == "offline":
            kind = "offline-run" if self._mode == "offline" else "run"
            print(f"W&B, offline: wandb sync --id {self._about.id} {self._folder.wandb}/{kind}-*", flush=True)

    def _work(self) -> None:
        """The thread. No error of W&B ends training or lets the queue grow until its end."""
        try:
            self._serve()
        except Exception as error:  # its own errors have no common base: a lost service, a closed mailbox, a full disk
            said = (str(error).splitlines() or [""])[0]
            message = f"W&B gets no further data, the run's own files do: {type(error).__name__}: {said}"
            print(f"W&B: {message}", file=sys.stderr, flush=True)
            self._on_event(make_event(self._step, "wandb_failed", message))
            while self._queue.get()[0] != "finish":
                pass

    def _serve(self) -> None:
        """Open the run, then process the queue."""
        run = self._open()
        run.define_metric("step")  # its own axis: W&B drops steps lower than one it has seen, as after a resume
        run.define_metric("*", step_metric="step")
        while (request := self._queue.get())[0] != "finish":
            if request[0] == "log":
                run.log(request[1])
            else:
                run.alert(title=request[1][0], text=request[1][1])
        run.finish()

    def _open(self) -> Any:
        if self._mode == "online":
            try:
                return self._init()
            except (self._wandb.errors.Error, OSError) as error:  # which covers TimeoutError
                self._mode = "offline"
                said = (str(error).splitlines() or [type(error).__name__])[0]
                message = f"W&B does not answer, logging offline from here: {said}"
                print(f"W&B: {message}", file=sys.stderr, flush=True)
                self._on_event(make_event(self._step, "wandb_offline", message))
                self._wandb.teardown()  # its service holds on to the run that it could not open
        return self._init()

    def _init(self) -> Any:
        settings = self._wandb.Settings(
            x_disable_meta=True,
            save_code=False,
            disable_git=True,
            console="off",
            silent=True,
            init_timeout=START_TIMEOUT,
            login_timeout=START_TIMEOUT,
            finish_timeout=FINISH_TIMEOUT,
        )
        return self._wandb.init(
            project=self._config.project,
            entity=self._config.entity,
            name=self._about.name,
            id=self._about.id,
            resume="allow",
            mode=self._mode,  # type: ignore[arg-type]
            dir=str(self._folder.root),  # W&B makes the folder `wandb` in it
            config=dict(self._about.settings),
            settings=settings,
        )


def flattened(record: Record) -> dict[str, Any]:
    """A record without nesting.

    >>> flattened({"step": 1, "lr": {"projector": 0.1}})
    {'step': 1, 'lr/projector': 0.1}
    """
    flat: dict[str, Any] = {}
    for key, value in record.items():
        if isinstance(value, Mapping):
            flat |= {f"{key}/{inner}": number for inner, number in value.items()}
        else:
            flat[key] = value
    return flat


def _has_key() -> bool:
    return bool(os.environ.get("WANDB_API_KEY")) or Path("~/.netrc").expanduser().is_file()
