"""The states of jobs as SLURM knows them: squeue for those in its memory, else the accounting's sacct.

Sources: `man squeue` (JOB STATE CODES, --states=all), `man sacct` (-X: jobs without their steps).
"""

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

TIMEOUT = 10  # seconds; a controller that does not answer is no answer
RUNNING = ("RUNNING", "COMPLETING", "SIGNALING", "STAGE_OUT", "RESIZING")
WAITING = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT")
PAUSED = ("SUSPENDED", "STOPPED")


@dataclass(frozen=True)
class JobState:
    """A job's state in SLURM's word, such as `RUNNING` or `OUT_OF_MEMORY`, and why it waits."""

    job: str
    word: str
    reason: str = ""

    @property
    def running(self) -> bool:
        """Its processes exist."""
        return self.word in RUNNING

    @property
    def waiting(self) -> bool:
        """It will start, for the first time or again."""
        return self.word in WAITING

    @property
    def paused(self) -> bool:
        """Its processes exist and do not run."""
        return self.word in PAUSED

    def __str__(self) -> str:
        """As in `job 12 is PENDING (BeginTime)`."""
        reason = f" ({self.reason})" if self.reason not in ("", "None") and not self.running else ""
        return f"job {self.job} is {self.word}{reason}"


def job_states(jobs: Sequence[str]) -> list[JobState]:
    """The states of `jobs` (numbers) in their order; those that SLURM does not know are left out.

    Empty without SLURM on this machine. Only strings of digits are passed on.
    """
    return [state for job in jobs if job.isdigit() and (state := _squeue(job) or _sacct(job)) is not None]


def _squeue(job: str) -> JobState | None:
    lines = _answer(["squeue", "--noheader", "--states=all", f"--jobs={job}", "--format=%T|%r"])
    if not lines:
        return None
    word, _, reason = lines[-1].partition("|")
    return JobState(job, word.strip(), reason.strip())


def _sacct(job: str) -> JobState | None:
    lines = _answer(["sacct", "--noheader", "-X", "--parsable2", f"--jobs={job}", "--format=State"])
    words = lines[-1].split() if lines else []  # "CANCELLED by 1000"
    return JobState(job, words[0].rstrip("+")) if words else None


def _answer(argv: list[str]) -> list[str]:
    """The lines that a program of SLURM prints; none if it is missing, fails or does not answer."""
    if shutil.which(argv[0]) is None:
        return []
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [line for line in done.stdout.splitlines() if line.strip()] if done.returncode == 0 else []
