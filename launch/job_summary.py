"""What a chain of jobs will do, for a person to read before it is submitted."""

from collections.abc import Iterator, Sequence

from configs.slurm import SlurmConfig
from configs.words import counted
from launch.job import Job
from launch.slurm_problems import script_option, time_seconds


def summary(jobs: Sequence[Job], slurm: SlurmConfig) -> str:
    """A paragraph for each job and the sum of GPU hours, ending in an empty line."""
    lines = [f"{len(jobs)} job{'s' * (len(jobs) != 1)}"]
    names: dict[str, str] = {}
    for number, job in enumerate(jobs, 1):
        names[job.stage] = f"JOB{number}"
        waits = f", after {' and '.join(names[stage] for stage in job.after)}" if job.after else ""
        lines += [f"{names[job.stage]}  {job.stage}{waits}", f"      {machines(job, slurm)}"]
        lines += [f"      reads   {', '.join(job.reads)}"] if job.reads else []
        lines += [f"      writes  {', '.join(job.writes)}"] if job.writes else []
    return "\n".join([*lines, *_total(jobs, slurm), ""])


def machines(job: Job, slurm: SlurmConfig) -> str:
    """Tasks, nodes, GPUs, cores and time limit of a job.

    `2 nodes x 8 GPUs (h100) x 24 h = 384 GPU hours at most; 8 ranks of 12 cores per node; partition gpu`
    """
    asked = slurm.of_stage(job.asks)
    kind = f" ({job.gpus.kind})" if job.gpus.kind else ""
    gpus = f"{counted(job.gpus.count, 'GPU')}{kind}" if job.gpus.count else "no GPU"
    parts = [counted(job.tasks, "task")] if job.tasks > 1 else []
    hours = limit_hours(job, slurm)
    parts += [counted(job.nodes, "node"), gpus, "no limit" if hours is None else _time(hours)]
    text = " x ".join(parts)
    if job.gpus.count and hours is not None:
        text += f" = {_gpu_hours(hours * _gpus(job))} at most"
    cores = counted(asked.cpus_per_task or 1, "core")
    text += f"; {job.ranks_per_node} ranks of {cores} per node" if job.ranks_per_node > 1 else f"; {cores}"
    text += f", {asked.memory} per node" if asked.memory else ""
    return text + (f"; partition {asked.partition}" if asked.partition else "")


def limit_hours(job: Job, slurm: SlurmConfig) -> float | None:
    """Hours of the job's time limit: of the config, else of the script's line; None without one."""
    text = slurm.of_stage(job.asks).time or script_option(job.script, "--time")
    seconds = time_seconds(text) if text else None
    return None if seconds is None else seconds / 3600


def _total(jobs: Sequence[Job], slurm: SlurmConfig) -> Iterator[str]:
    hours = [limit_hours(job, slurm) for job in jobs if job.gpus.count]
    known = sum((limit_hours(job, slurm) or 0) * _gpus(job) for job in jobs)
    if hours and None not in hours:
        yield f"all jobs: {_gpu_hours(known)} at most"
    if any(job.asks == "train" for job in jobs):
        yield "a training that needs more than its time limit saves and is queued again, for as many hours again"


def _gpu_hours(hours: float) -> str:
    return "1 GPU hour" if hours == 1 else f"{hours:,.4g} GPU hours"


def _gpus(job: Job) -> int:
    return job.tasks * job.nodes * job.gpus.count


def _time(hours: float) -> str:
    """Hours, or minutes below one: `1.5 h`, `40 min`."""
    return f"{hours:,.4g} h" if hours >= 1 else f"{hours * 60:.3g} min"
