"""One W&B run in a background thread, so that an unreachable or slow server delays nobody.

Requests wait in a queue while the run is opened. If the server has not answered by `START_TIMEOUT`, the run is kept
offline, one message says so, and `wandb sync` uploads it later. A server that is lost further on is W&B's own affair:
it writes everything to the run's folder first and tries again.
"""

import queue
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.credentials import has_wandb_key
from configs.errors import first_line, kind_and_line
from configs.saving import LoggingConfig

START_TIMEOUT = 30.0  # seconds for the server to open the run; less than CLOSE_TIMEOUT, for runs that end before
FINISH_TIMEOUT = 20.0  # seconds for the last uploads
CLOSE_TIMEOUT = 45.0  # seconds for them and for requests that still wait
OFFLINE, FAILED = "wandb_offline", "wandb_failed"

Request = Callable[[Any, Any], None]
"""Called in the thread with the module `wandb` and the open run."""
OnProblem = Callable[[str, str], None]
"""Receives `OFFLINE` or `FAILED` and a message, from another thread."""


@dataclass(frozen=True)
class WandbRun:
    """The run as W&B knows it."""

    name: str
    id: str
    settings: Mapping[str, Any]


class WandbSession:
    """A W&B run. The key comes from the environment only; argv, code and console are not uploaded."""

    def __init__(self, config: LoggingConfig, folder: Path, about: WandbRun, on_problem: OnProblem):
        """Begin to continue W&B run `about.id`, or to open it; offline where `config` says so or there is no key.

        W&B writes into `folder`/wandb. `on_problem` is called once if the server does not answer, and once if W&B
        itself fails.
        """
        import wandb

        self._wandb = wandb
        self._config, self._folder, self._about, self._on_problem = config, folder, about, on_problem
        self._mode = config.wandb
        if self._mode == "online" and not has_wandb_key():
            print("W&B: no WANDB_API_KEY: logging offline; `wandb sync` uploads it later", file=sys.stderr)
            self._mode = "offline"
        self._queue: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="wandb", daemon=True)
        self._thread.start()

    def submit(self, request: Request) -> None:
        """Have the thread call `request`, after those submitted before."""
        self._queue.put(request)

    def close(self) -> None:
        """Finish the W&B run, for which it has `CLOSE_TIMEOUT`; say how an offline one is uploaded."""
        self._queue.put(None)
        self._thread.join(CLOSE_TIMEOUT)
        if self._thread.is_alive() or self._mode == "offline":
            kind = "offline-run" if self._mode == "offline" else "run"
            print(f"W&B, offline: wandb sync --id {self._about.id} {self._folder / 'wandb'}/{kind}-*", flush=True)

    def _work(self) -> None:
        """The thread. No error of W&B ends the program or lets the queue grow until its end."""
        try:
            self._serve()
        except Exception as error:  # its own errors have no common base: a lost service, a closed mailbox, a full disk
            message = f"W&B gets no further data, the run's own files do: {kind_and_line(error)}"
            print(f"W&B: {message}", file=sys.stderr, flush=True)
            self._on_problem(FAILED, message)
            while self._queue.get() is not None:
                pass

    def _serve(self) -> None:
        """Open the run, then process the queue."""
        run = self._open()
        run.define_metric("step")  # its own axis: W&B drops steps lower than one it has seen, as after a resume
        run.define_metric("*", step_metric="step")
        while (request := self._queue.get()) is not None:
            request(self._wandb, run)
        run.finish()

    def _open(self) -> Any:
        if self._mode == "online":
            try:
                return self._init()
            except (self._wandb.errors.Error, OSError) as error:  # which covers TimeoutError
                self._mode = "offline"
                message = f"W&B does not answer, logging offline from here: {first_line(error)}"
                print(f"W&B: {message}", file=sys.stderr, flush=True)
                self._on_problem(OFFLINE, message)
                self._wandb.teardown()  # its service holds on to the run that it could not open
        return self._init()

    def _init(self) -> Any:
        settings = self._wandb.Settings(
            x_disable_meta=True,
            host="",  # not that of this machine
            save_code=False,
            disable_git=True,
            console="off",
            silent=True,
            init_timeout=START_TIMEOUT,
            login_timeout=START_TIMEOUT,
            finish_timeout=FINISH_TIMEOUT,
        )
        self._folder.mkdir(parents=True, exist_ok=True)
        return self._wandb.init(
            project=self._config.project,
            entity=self._config.entity,
            group=self._config.group,
            tags=list(self._config.tags),
            notes=self._config.notes,
            name=self._about.name,
            id=self._about.id,
            resume="allow",
            mode=self._mode,  # type: ignore[arg-type]
            dir=str(self._folder),  # W&B makes the folder `wandb` in it
            config=dict(self._about.settings),
            settings=settings,
        )
