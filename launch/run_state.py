"""Whether a run trains, is slow, waits, has ended or has crashed: judged from its files, its lock and SLURM's states.

The strongest evidence counts: the lock that rank 0 holds as long as it lives; the end that the last start has in
provenance.json; the state of its SLURM job; stack traces of a hang; its process on this machine; and, where none of
these says more, how long nothing was written, in steps of the run's own speed.
"""

import calendar
import json
import re
import socket
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.errors import UserError
from configs.load import load_config
from configs.run import RunConfig
from configs.run_dir import RunDir, SlurmDir
from data_prep.file_lock import is_held
from data_prep.provenance import FINISHED, read_starts
from launch.slurm_states import JobState, job_states

Record = Mapping[str, Any]

MEDIAN_STEPS = 50
SLOW_STEPS = 10  # a run that has been silent for so many of its steps is slow
SLOW_SECONDS = 60.0  # and for at least so long: a checkpoint or a held-out loss lies between two steps
STARTUP_SECONDS = 600.0  # before the first step: weights are read, layers compiled
FATAL = ("hang", "failed")  # the last event of a run that its watchdog ended
HOLDER = re.compile(r"process (\d+) on (.+)")


@dataclass(frozen=True)
class RunState:
    """`word` is `running`, `slow`, `waiting`, `finished`, `stopped`, `crashed` or `unknown`; `why` is the evidence."""

    word: str
    why: str

    @property
    def has_eta(self) -> bool:
        """Whether further steps are to be expected at the speed of the last ones."""
        return self.word in ("running", "slow")

    def __str__(self) -> str:
        """As in `crashed: job 12 is OUT_OF_MEMORY`."""
        return f"{self.word}: {self.why}"


def run_state(run: RunDir, metrics: Sequence[Record], events: Sequence[Record] = ()) -> RunState | None:
    """The state of `run`; `metrics` and `events` are the last lines of its files. None if nothing of it has begun."""
    starts = read_starts(run.provenance)
    start = starts[-1] if starts else {}
    if not start and not metrics and not SlurmDir(run.slurm).jobs.is_file():
        return None
    holder = _lock_holder(run)
    if holder is not None:
        return _silence(run, metrics, start, f"{holder} trains it")
    jobs = job_states(list(dict.fromkeys(filter(None, (_job_of(start), _submitted_job(run))))))
    if ended := _ended(run, start, jobs):
        return ended
    active = next((job for job in jobs if job.running or job.waiting or job.paused), None)
    if active is not None and active.running:
        return _silence(run, metrics, start, str(active))
    if active is not None:
        return RunState("waiting", str(active))
    return _crashed(run, start, jobs, events[-1:]) or _silence(run, metrics, start, "")


def _ended(run: RunDir, start: Record, jobs: Sequence[JobState]) -> RunState | None:
    """The state of a run whose last start has an end."""
    if start.get("end") is None:
        return None
    outcome = str(start.get("outcome"))
    if outcome == FINISHED:
        return RunState("finished", f"at {start['end']}")
    if any(job.waiting or job.running for job in jobs):
        return None  # the next attempt
    if not outcome.startswith("stopped"):
        return RunState("crashed", f"at {start['end']}, {outcome}")
    again = "; it continues when it is started again" if run.requeue.exists() else ""
    return RunState("stopped", f"at {start['end']}, {outcome}{again}")


def _crashed(run: RunDir, start: Record, jobs: Sequence[JobState], last: Sequence[Record]) -> RunState | None:
    """The state of a run whose last start has no end, if something says that it no longer lives."""
    dead = next((job for job in jobs if job.job == _job_of(start)), jobs[-1] if jobs and not start else None)
    hangs = [file.name for file in _hangs(run, _seconds(start.get("start")))]
    if hangs:
        shown = ", ".join(hangs[:4]) + (f" and {len(hangs) - 4} more" if len(hangs) > 4 else "")
        return RunState("crashed", f"it hung and was ended: stack traces in {shown}")
    if last and last[0].get("kind") in FATAL:
        return RunState("crashed", str(last[0].get("message", "")).partition("\n")[0])
    if dead is not None:
        return RunState("crashed", f"{dead}, and the training recorded no end")
    match = HOLDER.match(_lock_text(run))
    if start and match and match[2].strip() == socket.gethostname() and not Path(f"/proc/{match[1]}").exists():
        return RunState("crashed", f"process {match[1]} of this machine has gone without recording an end: killed")
    return None


def _silence(run: RunDir, metrics: Sequence[Record], start: Record, alive: str) -> RunState:
    """The state by the time since something was written; `alive` says how the run is known to live, if it is."""
    written = max((_changed(file) for file in (run.metrics, run.events)), default=0.0)
    begun = _seconds(start.get("start"))
    age = max(0.0, time.time() - max(written, begun))
    durations = [
        record["step_s"] for record in metrics[-MEDIAN_STEPS:] if isinstance(record.get("step_s"), int | float)
    ]
    usual = statistics.median(durations) if durations else None
    first = usual is None or begun > _changed(run.metrics)  # also after a resume, whose steps are still to come
    patience = STARTUP_SECONDS if first else max(SLOW_SECONDS, SLOW_STEPS * (usual or 0.0))
    known = f"; {alive}" if alive else ""
    if age <= patience:
        return RunState("running", alive or "it is being written")
    speed = "" if usual is None else f", a step takes {usual:.3g} s"
    silent = f"nothing was written for {_duration(age)}{speed}"
    if alive:
        return RunState("slow", f"{silent}{known}")
    limit = _step_timeout(run)
    if limit is not None and age > 2 * max(limit, patience):
        return RunState("crashed", f"{silent}; a run that hangs is ended after train.step_timeout, {limit:g} s")
    return RunState("unknown", f"{silent}; no process, lock or SLURM job seen from this machine says whether it lives")


def _lock_holder(run: RunDir) -> str | None:
    """Who holds the run's lock; None if nobody does, or the file system cannot say."""
    return (_lock_text(run) or "a process") if is_held(run.lock) else None


def _lock_text(run: RunDir) -> str:
    try:
        return run.lock.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _hangs(run: RunDir, begun: float) -> Iterator[Path]:
    """Stack traces of the last start, by rank; those of an earlier one may still lie there."""
    files = run.root.glob(run.hang(0).name.replace("0", "*"))
    yield from sorted(file for file in files if _changed(file) >= begun)


def _job_of(start: Record) -> str | None:
    job = start.get("slurm_job")
    return job if isinstance(job, str) else None


def _submitted_job(run: RunDir) -> str | None:
    """The number of the training that `launch.submit` submitted last."""
    try:
        records = json.loads(SlurmDir(run.slurm).jobs.read_text(encoding="utf-8"))
        found = [str(record["id"]) for record in records if record["stage"] == "finetune"]
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return found[-1] if found else None


def _step_timeout(run: RunDir) -> float | None:
    try:
        return load_config(RunConfig, run.config)[0].train.step_timeout
    except UserError:
        return None


def _changed(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0


def _seconds(moment: object) -> float:
    """A time of provenance.json as seconds since 1970; 0 for anything else."""
    try:
        return float(calendar.timegm(time.strptime(str(moment), "%Y-%m-%dT%H:%M:%SZ")))
    except ValueError:
        return 0.0


def _duration(seconds: float) -> str:
    """Seconds for a person.

    >>> [_duration(s) for s in (59, 600, 9000, 200000)]
    ['59 s', '10 min', '2.5 h', '2.3 days']
    """
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.2g} {unit}"
    return f"{seconds:.0f} s"
