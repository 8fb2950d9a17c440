"""Where metrics go: a JSONL file and the console here, Weights & Biases beside; all take two kinds of record."""

import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from tqdm import tqdm

from configs.run_dir import RunDir
from data_prep.atomic import write_bytes

Record = Mapping[str, Any]

QUIET_EVERY = 20  # steps between lines where there is no terminal; fewer in a short run


class Sink(Protocol):
    """Takes one record per step and one per event."""

    def metrics(self, record: Record) -> None:
        """One optimizer step."""
        ...

    def event(self, record: Record) -> None:
        """Something worth a person's attention: a verdict of the monitor, a checkpoint, a resume."""
        ...

    def close(self) -> None:
        """Nothing follows."""
        ...


def make_event(step: int, kind: str, message: str, **details: Any) -> dict[str, Any]:
    """A record for `Sink.event`."""
    return {"time": time.strftime("%Y-%m-%dT%H:%M:%S"), "step": step, "kind": kind, "message": message, **details}


class JsonlSink:
    """metrics.jsonl and events.jsonl of a run."""

    def __init__(self, run: RunDir, resume_step: int):
        """Cut metrics.jsonl back to `resume_step`, so that no step stands in it twice."""
        run.root.mkdir(parents=True, exist_ok=True)
        cut_back(run.metrics, resume_step)
        self._metrics, self._events = Lines(run.metrics), Lines(run.events)

    def metrics(self, record: Record) -> None:
        """Append a line; a killed run keeps it."""
        self._metrics.append(json.dumps(record))

    def event(self, record: Record) -> None:
        """Append a line; from any thread."""
        self._events.append(json.dumps(record))

    def close(self) -> None:
        """Close both files."""
        self._metrics.close()
        self._events.close()


class Lines:
    """A text file that grows by whole lines. What a full disk does not take waits in memory for the next line."""

    def __init__(self, path: Path):
        """Open `path` for appending."""
        self._path = path
        self._file = path.open("ab", buffering=0)
        self._waiting: list[bytes] = []
        self._lock = threading.Lock()

    def append(self, line: str) -> None:
        """Write `line` and what waits before it, or none of them; from any thread."""
        with self._lock:
            self._waiting.append(f"{line}\n".encode())
            self._write()

    def close(self) -> None:
        """Try a last time and close; lines that find no room are counted on stderr."""
        with self._lock:
            self._write()
            self._file.close()
            if self._waiting:
                print(f"{self._path} lacks its last {len(self._waiting)} lines: no room for them", file=sys.stderr)

    def _write(self) -> None:
        text, done = b"".join(self._waiting), 0
        try:
            before = os.fstat(self._file.fileno()).st_size
            while done < len(text):
                done += self._file.write(text[done:])
        except OSError as error:
            if done:  # not half a line; a disk that fails altogether may refuse this as well
                with contextlib.suppress(OSError):
                    os.ftruncate(self._file.fileno(), before)
            if len(self._waiting) == 1:
                print(f"{self._path}: {error.strerror}; its lines wait in memory for room", file=sys.stderr, flush=True)
            return
        self._waiting.clear()


def records(file: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl or events.jsonl, none if there is no such file; one torn by a kill is passed over."""
    found = []
    for line in file.read_text(encoding="utf-8").splitlines() if file.is_file() else ():
        with contextlib.suppress(json.JSONDecodeError):
            found.append(json.loads(line))
    return found


def cut_back(metrics: Path, step: int) -> None:
    """Drop the lines of steps after `step`, and a torn last line."""
    if metrics.is_file():
        kept = [json.dumps(record) + "\n" for record in records(metrics) if record["step"] <= step]
        write_bytes(metrics, "".join(kept).encode())


class ConsoleSink:
    """A progress bar on a terminal, a line now and then elsewhere."""

    def __init__(self, total_steps: int, start: int):
        """The bar stands at step `start`."""
        self._terminal = sys.stderr.isatty()
        self._total = total_steps
        self._quiet_every = max(1, min(QUIET_EVERY, total_steps // 10))
        self._bar = tqdm(total=total_steps, initial=start, unit="step", disable=not self._terminal, dynamic_ncols=True)

    def metrics(self, record: Record) -> None:
        """Advance the bar, or print a line."""
        text = f"loss {record['loss']:.4f}  |grad| {record['grad_norm']:.3f}  {record['samples_per_s']:.1f} samples/s"
        for source, loss in (record.get("heldout_loss") or {}).items():
            text += f"  held-out {source} {loss:.4f}"
        self._bar.set_postfix_str(text, refresh=False)
        self._bar.update(record["step"] - self._bar.n)
        step = record["step"]
        if not self._terminal and (step % self._quiet_every == 0 or step in (1, self._total)):
            print(f"step {step}/{self._total}  {text}", flush=True)

    def event(self, record: Record) -> None:
        """Print the event above the bar."""
        self._bar.write(f"[step {record['step']}] {record['kind']}: {record['message']}", file=sys.stderr)

    def close(self) -> None:
        """Leave the bar as it stands."""
        self._bar.close()
