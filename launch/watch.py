"""Shows the state of a run from its files: while it trains, after it ended, and on any machine.

    python -m launch.watch runs/NAME [--follow]

The first line says whether it trains, is slow, waits, has ended or has crashed, and why (`launch.run_state`). ETA is
(total steps - step) x the median duration of the last steps, and only for a run that trains; the total follows from the
saved config and the fraction of an epoch that a step is. With --follow, every new step and event is one more line until
Ctrl-C, and so is a new state.
"""

import statistics
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from configs.command_line import command_parser, exit_on_user_error
from configs.errors import RunError, UserError
from configs.eval_dir import EvalDir
from configs.run_dir import CheckpointDir, RunDir
from configs.words import counted
from data_prep.run_ending import total_steps
from data_prep.run_search import record_of_line
from launch.run_state import MEDIAN_STEPS, run_state

Record = Mapping[str, Any]

TAIL_BYTES = 200_000
SHOWN_EVENTS = 8
SHOWN_RUNS = 5  # in a message
STATE_SECONDS = 10.0  # without a new line, after which --follow looks whether the run still lives
NEWLINE = b"\n"


def tail(file: Path, start: int | None = None) -> tuple[list[Record], int]:
    """The complete JSON lines of `file` from byte `start` on (default: its last 200 kB), and the byte after them.

    A line that is still being written is left for the next call; a damaged line is skipped. A file that has become
    shorter (a resume truncates metrics to its checkpoint) is read from its end.
    """
    if not file.is_file():
        return [], 0
    with file.open("rb") as stream:
        size = stream.seek(0, 2)
        first = max(0, size - TAIL_BYTES) if start is None else min(start, size)
        stream.seek(first)
        data = stream.read()
    whole = data[: data.rfind(b"\n") + 1]
    lines = whole.split(b"\n")
    if start is None and first > 0:
        lines = lines[1:]  # the cut may be in the middle of a line
    return [record for line in lines if (record := record_of_line(line)) is not None], first + len(whole)


def step_line(record: Record, eta: str = "") -> str:
    """One step as one line.

    >>> step_line({"step": 7, "loss": 1.5, "grad_norm": 0.25, "samples_per_s": 12.0}, "0:01:30")
    'step 7  loss 1.5  grad_norm 0.25  samples/s 12  ETA 0:01:30'
    """
    parts = [f"step {record.get('step', '?')}"]
    parts += [f"{key} {_number(record[key])}" for key in ("epoch", "loss", "grad_norm") if key in record]
    if "samples_per_s" in record:
        parts.append(f"samples/s {_number(record['samples_per_s'])}")
    sources = record.get("loss_by_source")
    if isinstance(sources, dict) and len(sources) > 1:
        parts.append("(" + ", ".join(f"{name} {_number(loss)}" for name, loss in sources.items()) + ")")
    if eta:
        parts.append(f"ETA {eta}")
    return _printable("  ".join(parts))


def event_line(record: Record) -> str:
    """One event as one line: time, step, kind, and the first line of its message."""
    first, more, _ = str(record.get("message", "")).partition("\n")
    moment = record.get("time", "")
    if isinstance(moment, int | float):
        moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment))
    words = (moment, f"step {record.get('step', '-')}", record.get("kind", "?"), first + (" ..." if more else ""))
    return _printable("  ".join(str(word) for word in words))


def eta_text(metrics: list[Record], total: int | None) -> str:
    """Hours, minutes and seconds until step `total`; empty if that is unknown or reached."""
    durations = [record["step_s"] for record in metrics[-MEDIAN_STEPS:] if _is_number(record.get("step_s"))]
    if total is None or not durations or not _is_number(metrics[-1].get("step")):
        return ""
    left = total - metrics[-1]["step"]
    if left <= 0:
        return ""
    seconds = round(left * statistics.median(durations))
    return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def state(run: RunDir) -> list[str]:
    """The lines that describe the run now; raises `RunError` if there is no such folder."""
    if not run.root.is_dir():
        raise RunError(f"there is no run folder {run.root}; runs lie in runs_dir (default: runs/)")
    inside = [] if run.config.is_file() else sorted(p.name for p in run.root.glob("*/") if RunDir(p).config.is_file())
    if inside:
        shown = ", ".join(inside[:SHOWN_RUNS]) + (", ..." if len(inside) > SHOWN_RUNS else "")
        raise RunError(f"{run.root} has no {run.config.name}: it is a folder of runs; name one of them: {shown}")
    metrics, _ = tail(run.metrics)
    events, _ = tail(run.events)
    total = total_steps(run, metrics)
    now = run_state(run, metrics, events)
    lines = [f"run {run.root}", *([str(now)] if now else [])]
    if metrics:
        age = time.time() - run.metrics.stat().st_mtime
        eta = eta_text(metrics, total) if now and now.has_eta else ""
        lines += [step_line(metrics[-1], eta) + (f"  of {total} steps" if total else "")]
        lines += [f"last written {age:.0f} s ago"]
    else:
        lines.append("no step yet")
    steps = [
        folder.name + ("" if CheckpointDir(folder).manifest.is_file() else " (incomplete)")
        for folder in map(run.checkpoint, run.steps())
    ]
    lines.append(f"checkpoints: {', '.join(steps) or 'none'}")
    lines.append(f"export: {run.export if run.export.is_dir() else 'none'}")
    if run.requeue.exists():
        lines.append("stopped by a signal after saving; continues when it is started again")
    lines += [f"evaluation {text}" for text in _evaluations(run)]
    lines += ["events:", *(f"  {event_line(event)}" for event in events[-SHOWN_EVENTS:])] if events else []
    return [_printable(line) for line in lines]


def _evaluations(run: RunDir) -> Iterator[str]:
    """A line for each evaluation and each of its labels (`export`, `step-00000500`)."""
    for evaluation in sorted(run.evaluations.glob("*/")):
        for folder in sorted(evaluation.glob("*/")):
            yield f"{evaluation.name}, {folder.name}: {_progress(EvalDir(folder))}"


def _progress(folder: EvalDir) -> str:
    if folder.report("json").is_file():
        return f"reported in {folder.report('md')}"
    return counted(sum(file.read_bytes().count(NEWLINE) for file in folder.all_predictions()), "answer") + " so far"


def follow(run: RunDir, interval: float) -> Iterator[str]:
    """A line for each step, event and change of state from now on; never ends."""
    metrics, metrics_end = tail(run.metrics)
    events, events_end = tail(run.events)
    last, silent = run_state(run, metrics, events), 0.0
    while True:
        time.sleep(interval)
        new_events, events_end = tail(run.events, events_end)
        events = [*events[-1:], *new_events]
        yield from (event_line(event) for event in new_events)
        new_metrics, metrics_end = tail(run.metrics, metrics_end)
        total = total_steps(run, new_metrics)
        for record in new_metrics:
            metrics = [*metrics[-MEDIAN_STEPS:], record]
            yield step_line(record, eta_text(metrics, total))
        silent = 0.0 if new_metrics or new_events else silent + interval
        if silent >= STATE_SECONDS:
            silent, now = 0.0, run_state(run, metrics, events)
            if now is not None and (last is None or now.word != last.word):
                yield _printable(str(now))
            last = now


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else str(value)


def _printable(text: str) -> str:
    """`text` without terminal control characters: messages may quote data."""
    return "".join(character if character.isprintable() else "?" for character in text)


def main() -> None:
    """Print the state; with --follow continue until Ctrl-C."""
    parser = command_parser(__doc__)
    parser.add_argument("run", type=Path, help="run folder, for example runs/demo_mix")
    parser.add_argument("--follow", action="store_true", help="keep printing new steps and events")
    parser.add_argument(
        "--interval", type=float, default=2.0, metavar="SECONDS", help="between two reads of the files (default: 2)"
    )
    arguments = parser.parse_args()
    run = RunDir(arguments.run)
    try:
        print("\n".join(state(run)), flush=True)
        from data_prep.run_index import update_index  # the page writer loads slowly

        update_index(run.root)
        if arguments.follow:
            for line in follow(run, arguments.interval):
                print(line, flush=True)
    except UserError as error:
        exit_on_user_error(error)
    except KeyboardInterrupt:
        print()


if __name__ == "__main__":
    main()
