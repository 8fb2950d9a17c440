"""The jobs of a run, their options and their order. Reads configs and looks for shards; starts nothing.

    data_prep.run ─▶ finetune ─▶ eval.A ─▶ eval.A.report
         └─▶ data_prep.eval.A ──────┘

A data_prep job is only there for shard sets that are missing, and builds only them. These jobs run one after the other.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from configs.data import DataConfig
from configs.evaluation import EvalConfig
from configs.load import to_yaml
from configs.run import RunConfig
from configs.run_dir import SlurmDir
from configs.slurm import Gpus, SlurmConfig, evaluation_gpus, gpus_of, training_gpus
from data_prep.atomic import write_bytes
from launch import commands
from launch.cluster import Cluster
from launch.job import Job
from launch.preflight import evaluation_sources, missing_shards, run_folder


def slurm_dir(config: RunConfig) -> SlurmDir:
    """The folder of a run's jobs."""
    return SlurmDir(run_folder(config).slurm)


def write_configs(config: RunConfig, evaluations: Sequence[EvalConfig]) -> SlurmDir:
    """Write the resolved configs of a run and its evaluations where they differ from what is there."""
    folder = slurm_dir(config)
    folder.root.mkdir(parents=True, exist_ok=True)
    texts = {"run": to_yaml(config)} | {f"eval.{found.name}": to_yaml(found) for found in evaluations}
    for name, text in texts.items():
        file = folder.config(name)
        if not file.is_file() or file.read_text(encoding="utf-8") != text:
            write_bytes(file, text.encode())
    return folder


def plan(config: RunConfig, evaluations: list[EvalConfig], cluster: Cluster, start: str, python: str) -> list[Job]:
    """The jobs of the chain from stage `start` on, each after those it needs. `python` is the jobs' interpreter."""
    preparations = list(_preparations(config, evaluations, start, python))
    jobs = [*preparations]
    trained: tuple[str, ...] = ()
    if start != "eval":
        first = tuple(job.stage for job in preparations if job.stage == "data_prep.run")
        jobs.append(_training(config, cluster, first, python))
        trained = (jobs[-1].stage,)
    after = tuple(dict.fromkeys([*trained, *(job.stage for job in preparations[-1:])]))
    for evaluation in evaluations:
        jobs += _evaluation(config, evaluation, cluster, after, python)
    return jobs


def _preparations(config: RunConfig, evaluations: list[EvalConfig], start: str, python: str) -> Iterator[Job]:
    """The jobs that build the shards of the evaluations, and from stage `data_prep` on those of the training first."""
    folder = slurm_dir(config)
    needs = [
        ShardNeed(folder.config(f"eval.{one.name}"), one.data, evaluation_sources(one), f"eval.{one.name}")
        for one in evaluations
    ]
    if start == "data_prep":
        sources = config.train.sources + config.train.heldout
        needs.insert(0, ShardNeed(folder.config("run"), config.data, sources, "run"))
    return data_jobs(config.name, needs, config.slurm, python)


@dataclass(frozen=True)
class ShardNeed:
    """Sources of a saved config whose shards are needed; a job that builds them is called `data_prep.LABEL`."""

    config: Path
    data: DataConfig
    sources: tuple[str, ...]
    label: str | None = None
    """None: the number of the job."""


def data_jobs(run: str, needs: Iterable[ShardNeed], slurm: SlurmConfig, python: str) -> Iterator[Job]:
    """One job after the other that builds missing shard sets, each set once.

    A job is an array of `slurm.prep_tasks` tasks, the last of which writes the manifests.
    """
    building: set[Path] = set()
    stages: list[str] = []
    for need in needs:
        shards = Path(need.data.shards)
        missing = [name for name in missing_shards(need.data, need.sources) if shards / name not in building]
        if not missing:
            continue
        building |= {shards / name for name in missing}
        stage = f"data_prep.{len(stages) if need.label is None else need.label}"
        processes = slurm.of_stage("data_prep").cpus_per_task or 1
        yield Job(
            run=run,
            stage=stage,
            script="data_prep",
            asks="data_prep",
            command=tuple(commands.data_prep(python, need.config, missing, slurm.prep_tasks, processes)),
            gpus=gpus_of(slurm.data_prep.gpus or "0", "slurm.data_prep.gpus"),
            tasks=slurm.prep_tasks,
            after=tuple(stages[-1:]),
            reads=tuple(
                f"{name} ({need.data.sources[name].path or need.data.sources[name].reader})" for name in missing
            ),
            writes=tuple(f"{need.data.shards}/{name}" for name in missing),
        )
        stages.append(stage)


def _training(config: RunConfig, cluster: Cluster, after: tuple[str, ...], python: str) -> Job:
    settings, run = slurm_dir(config).config("run"), run_folder(config)
    kept = (run.export,) if config.checkpoint.export else ()
    return Job(
        run=config.name,
        stage="finetune",
        script="finetune",
        asks="train",
        command=tuple(commands.finetune_rank(python, settings)),
        nodes=cluster.nodes,
        ranks_per_node=cluster.ranks_per_node,
        gpus=training_gpus(config.slurm, cluster.gpus_per_node),
        after=after,
        reads=(config.model.base, *(f"{config.data.shards}/{n}" for n in config.train.sources + config.train.heldout)),
        writes=tuple(map(str, (run.checkpoints, *kept))),
    )


def _evaluation(
    config: RunConfig, evaluation: EvalConfig, cluster: Cluster, after: tuple[str, ...], python: str
) -> list[Job]:
    """One job that evaluates and reports; or an array, each task on one GPU, and a report job after it.

    The saved config names the run as its model, so the commands need no `--set model=`.
    """
    stage = f"eval.{evaluation.name}"
    settings = slurm_dir(config).config(stage)
    written = evaluation.output or str(run_folder(config).evaluation(evaluation.name))
    evaluate = Job(
        run=config.name,
        stage=stage,
        script="evaluate",
        asks="eval",
        command=tuple(commands.evaluate(python, settings, workers=config.slurm.eval_tasks)),
        gpus=evaluation_gpus(config.slurm, min(1, cluster.gpus_per_node)),
        tasks=config.slurm.eval_tasks,
        after=after,
        reads=(
            f"{evaluation.model} ({evaluation.checkpoint})",
            *(f"{evaluation.data.shards}/{name}" for name in evaluation_sources(evaluation)),
        ),
        writes=(written,),
    )
    if evaluate.tasks == 1:
        return [evaluate]
    report = Job(
        run=config.name,
        stage=f"{stage}.report",
        script="evaluate",
        asks="report",
        command=tuple(commands.report(python, settings)),
        gpus=Gpus(0),
        after=(stage,),
        reads=(written,),
        writes=(written,),
    )
    return [evaluate, report]
