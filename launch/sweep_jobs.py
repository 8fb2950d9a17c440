"""The SLURM jobs of a sweep: an array that trains, one for each evaluation, and a job that makes the table.

    data_prep.0 ─▶ train (array: a run each) ─▶ eval.A (array; task i after task i) ─▶ table

The scripts of the stages are those of a single run: each task of an array starts the one of its stage for its run
(slurm/sweep.sbatch). Finished runs are not in the arrays, so the same command submits what is left.
"""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from configs.run_dir import SlurmDir
from configs.slurm import Gpus, evaluation_gpus, training_gpus
from data_prep.atomic import write_bytes
from launch import commands
from launch.chain import ShardNeed, data_jobs
from launch.cluster import Cluster
from launch.job import Job
from launch.preflight import evaluation_sources
from launch.sweep_plan import Sweep, SweepRun
from launch.sweep_state import has_diverged, is_evaluated, is_trained

TRAINED = ".trained"  # of the stage of evaluations whose runs have been trained before


def plan_jobs(sweep: Sweep, cluster: Cluster, python: str, table_command: Sequence[str]) -> list[Job]:
    """All jobs that are left, each after those it needs; none if all is done but the table."""
    runs = [one for one in sweep.runs if not has_diverged(one)]
    to_train = [one for one in runs if not is_trained(one)]
    jobs = list(data_jobs(sweep.name, _shard_needs(sweep.runs, to_train), sweep.runs[0].config.slurm, python))
    prepared = tuple(job.stage for job in jobs[-1:])
    if to_train:
        jobs.append(_training(sweep, to_train, cluster, prepared, python))
    for number, evaluation in enumerate(sweep.runs[0].evaluations):
        left = [one for one in runs if one in to_train or not is_evaluated(one, one.evaluations[number])]
        # with runs that are trained already among them, an array has no task of the training for each of its own
        for of, after in ((to_train, ("train",)), ([one for one in left if one not in to_train], prepared)):
            if of:
                suffix = "" if of is to_train else TRAINED
                jobs.append(_evaluation(sweep, of, f"eval.{evaluation.name}{suffix}", after, python, cluster))
    if jobs:
        jobs.append(_table(sweep, table_command, tuple(job.stage for job in jobs)))
    return jobs


def write_run_lists(sweep: Sweep, jobs: Sequence[Job]) -> None:
    """The files that say which run each task of an array is for."""
    by_folder = {str(one.run.root): one for one in sweep.runs}
    for runs in (job.writes for job in jobs if job.script == "sweep"):
        assert all(folder in by_folder for folder in runs)
        write_bytes(_list_file(sweep, runs), ("\n".join(runs) + "\n").encode())


def _list_file(sweep: Sweep, folders: Sequence[str]) -> Path:
    key = hashlib.sha256("\n".join(folders).encode()).hexdigest()[:12]
    return sweep.folder.run_list(key)


def _array(sweep: Sweep, runs: Sequence[SweepRun], script: str, config: str) -> dict[str, object]:
    """The fields of a job whose tasks are one for each of `runs`."""
    folders = tuple(str(one.run.root) for one in runs)
    listed = str(_list_file(sweep, folders))
    return {
        "run": sweep.name,
        "script": "sweep",
        "script_arguments": (listed, f"{script}.sbatch", config),
        "tasks": len(runs),
        "array": True,
        "writes": folders,
    }


def _training(sweep: Sweep, runs: Sequence[SweepRun], cluster: Cluster, after: tuple[str, ...], python: str) -> Job:
    slurm = runs[0].config.slurm
    return Job(
        stage="train",
        asks="train",
        command=(python, commands.FINETUNE, "--resume", "auto"),
        nodes=cluster.nodes,
        ranks_per_node=cluster.ranks_per_node,
        gpus=training_gpus(slurm, cluster.gpus_per_node),
        after=after,
        **_array(sweep, runs, "finetune", "run"),  # type: ignore[arg-type]
    )


def _evaluation(
    sweep: Sweep, runs: Sequence[SweepRun], stage: str, after: tuple[str, ...], python: str, cluster: Cluster
) -> Job:
    config = stage.removesuffix(TRAINED)
    return Job(
        stage=stage,
        asks="eval",
        command=(python, "-m", "eval.run"),
        gpus=evaluation_gpus(runs[0].config.slurm, min(1, cluster.gpus_per_node)),
        after=after,
        after_how="aftercorr" if after == ("train",) else "afterok",
        **_array(sweep, runs, "evaluate", config),  # type: ignore[arg-type]
    )


def _shard_needs(runs: Sequence[SweepRun], to_train: Sequence[SweepRun]) -> Iterator[ShardNeed]:
    """What the trainings that are left and all evaluations read."""
    for one in runs:
        folder = SlurmDir(one.run.slurm)
        if one in to_train:
            sources = one.config.train.sources + one.config.train.heldout
            yield ShardNeed(folder.config("run"), one.config.data, sources)
        for found in one.evaluations:
            yield ShardNeed(folder.config(f"eval.{found.name}"), found.data, evaluation_sources(found))


def _table(sweep: Sweep, command: Sequence[str], after: tuple[str, ...]) -> Job:
    return Job(
        run=sweep.name,
        stage="table",
        script="evaluate",
        asks="report",
        command=tuple(command),
        gpus=Gpus(0),
        after=after,
        after_how="afterany",
        writes=(str(sweep.folder.table("html")),),
    )
