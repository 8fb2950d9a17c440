"""What `python -m launch.sweep` does with a plan: says what it takes, runs or submits it, and makes its table."""

import json
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from configs.errors import RunError
from configs.run_dir import RunDir, SlurmDir
from configs.words import counted
from data_prep.byte_size import size
from data_prep.disk_space import free_space
from launch.chain import write_configs
from launch.cluster import Cluster
from launch.preflight import needed_bytes, problems, run_folder
from launch.slurm_queue import Queue
from launch.slurm_states import job_states
from launch.sweep_jobs import plan_jobs, write_run_lists
from launch.sweep_local import run_local
from launch.sweep_page import aligned, as_text, write_table
from launch.sweep_plan import Sweep
from launch.sweep_state import has_diverged, is_evaluated, is_trained, state_of, steps_of
from launch.sweep_table import sweep_table
from launch.watch import tail


def problems_of(sweep: Sweep, cluster: Cluster) -> list[str]:
    """What would make a run fail, each problem once, and whether all runs fit on the disk."""
    left = [one for one in sweep.runs if not is_trained(one) and not has_diverged(one)]
    found: dict[str, list[str]] = {}
    for one in left:
        for text in problems(one.config, cluster):
            found.setdefault(text, []).append(one.config.name)
    texts = [text if len(names) == len(left) else f"{names[0]}: {text}" for text, names in found.items()]
    if left and not found:
        needed = sum(needed_bytes(one.config)[0] for one in left)
        free, folder = free_space(Path(left[0].config.runs_dir))
        if needed > free:
            texts.append(
                f"{len(left)} runs write about {size(int(needed))} and {folder} has {size(free)} free; lower "
                "checkpoint.keep_last, set checkpoint.export=false with evaluations of checkpoint: last, or runs_dir"
            )
    return texts


def plan_of(sweep: Sweep) -> dict[str, Any]:
    """State, steps and hours left of each run; hours where the seconds of a step are known from an earlier run."""
    seconds = seconds_per_step(sweep)
    runs = []
    for one in sweep.runs:
        state, steps = state_of(one), steps_of(one.config)
        if state in ("trained", "diverged"):
            steps = 0
        hours = None if steps is None or (seconds is None and steps) else steps * (seconds or 0.0) / 3600
        left = sum(not is_evaluated(one, evaluation) for evaluation in one.evaluations)
        runs.append(
            {"run": one.config.name, "state": state, "steps_left": steps, "hours_left": hours, "evaluations_left": left}
        )
    return {
        "sweep": sweep.name,
        "folder": str(sweep.folder.root),
        "settings": len(sweep.combinations),
        "seconds_per_step": seconds,
        "runs": runs,
    }


def plan_text(plan: Mapping[str, Any]) -> str:
    """A line for each run of a plan, and the total."""
    runs, seconds = plan["runs"], plan["seconds_per_step"]
    rows = [
        (
            run["run"],
            run["state"],
            "?" if run["steps_left"] is None else f"{run['steps_left']:,}",
            "?" if run["hours_left"] is None else f"{run['hours_left']:.2f}",
            str(run["evaluations_left"]),
        )
        for run in runs
    ]
    total_steps = sum(run["steps_left"] or 0 for run in runs)
    total_hours = sum(run["hours_left"] or 0.0 for run in runs)
    lines = [
        f"sweep {plan['sweep']}: {counted(plan['settings'], 'setting')}, {counted(len(runs), 'run')}, "
        f"in {plan['folder']}"
    ]
    lines.append(aligned(rows, ("run", "state", "steps left", "hours", "evaluations left")))
    known = f"{total_hours:.2f} hours of training one after the other" if seconds else "hours unknown"
    unbuilt = sum(run["steps_left"] is None for run in runs)
    least = "unknown" if unbuilt == len(rows) else f"at least {total_steps:,}"
    missing = f"{least} steps (shards of {counted(unbuilt, 'run')} are missing)"
    lines.append(f"total: {missing if unbuilt else f'{total_steps:,} steps'}, {known}")
    if seconds is None:
        lines.append("hours follow from the seconds of a step, which a first run on this machine will show")
    else:
        lines.append(f"hours: {seconds:.3g} s a step, the median of runs that were trained before")
    return "\n".join(lines)


def seconds_per_step(sweep: Sweep) -> float | None:
    """Median seconds of a step in the runs of the sweep; None before the first."""
    found = [
        record["step_s"]
        for one in sweep.runs
        for record in tail(run_folder(one.config).metrics)[0]
        if isinstance(record.get("step_s"), int | float)
    ]
    return statistics.median(found) if found else None


def run_all(sweep: Sweep, ranks: int | None) -> list[str]:
    """Run what is left here. The table is made even if it is interrupted."""
    try:
        return run_local(sweep, ranks)
    except (KeyboardInterrupt, SystemExit):
        write_table(sweep.folder, sweep_table(sweep))
        raise


def report(sweep: Sweep, json_target: Path | None, emit: Callable[[Path | None, object], bool]) -> None:
    """Write the table and print it."""
    table: dict[str, Any] = sweep_table(sweep)
    page = write_table(sweep.folder, table)
    if not emit(json_target, table):
        print(f"\n{as_text(table)}\n\npage: {page}")


def _refuse_while_queued(sweep: Sweep) -> None:
    """Raise `RunError` while the last job of an earlier submission, which waits for all others, has not ended."""
    try:
        records = json.loads(SlurmDir(RunDir(sweep.folder.root).slurm).jobs.read_text(encoding="utf-8"))
        ids = [str(record["id"]) for record in records]
    except (OSError, ValueError, TypeError, KeyError):
        return
    for job in job_states(ids[-1:]):
        if job.waiting or job.running or job.paused:
            raise RunError(f"this sweep is in the queue ({job}); wait for it, or cancel it: scancel {' '.join(ids)}")


def submit(
    sweep: Sweep, cluster: Cluster, table_command: Sequence[str], *, dry_run: bool = False, scripts: bool = False
) -> None:
    """Submit the jobs that are left, or print them. Raises `RunError` while earlier jobs of the sweep are queued."""
    slurm = sweep.runs[0].config.slurm
    python = slurm.python or sys.executable
    queue = Queue(sweep.folder.root, slurm)
    jobs = plan_jobs(sweep, cluster, python, [python, *table_command])
    if not jobs:
        print("all runs are trained and evaluated; --report-only makes the table")
        return
    if dry_run:
        print(queue.dry_run_text(jobs, scripts), end="")
        return
    _refuse_while_queued(sweep)
    for one in sweep.runs:
        write_configs(one.config, one.evaluations)
    queue.write_scripts(jobs)
    write_run_lists(sweep, jobs)
    queue.submit(jobs)
    print(f"the table will be {sweep.folder.table('html')}; until then: {' '.join(['python', *table_command])}")
