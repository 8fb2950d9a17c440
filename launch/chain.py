"""Which jobs a run needs, with which options, in which order. Pure: reads configs and looks for shards, starts nothing.

    data_prep.run ─▶ finetune ─▶ eval.A ─▶ eval.A.report
         └─▶ data_prep.eval.A ──────┘

A data_prep job is only there for shard sets that are missing, and builds only them. These jobs run one after the other.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from configs.errors import ConfigError
from configs.schema import EvalConfig, RunConfig
from launch import commands
from launch.cluster import Cluster
from launch.preflight import evaluation_sources, missing_shards, run_folder

JOB_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}")
ONE_TASK = ("--nodes=1", "--ntasks=1")


@dataclass(frozen=True)
class SlurmDir:
    """runs/NAME/slurm: what was submitted, and what the jobs print."""

    root: Path

    def script(self, kind: str) -> Path:
        """The copied job script `data_prep`, `finetune` or `evaluate`."""
        return self.root / f"{kind}.sbatch"

    @property
    def setup(self) -> Path:
        """`slurm.setup`, sourced by every script."""
        return self.root / "setup.sh"

    def config(self, name: str) -> Path:
        """The resolved config of the run (`run`) or of an evaluation (`eval.NAME`)."""
        return self.root / f"{name}.yaml"

    def log(self, job: "Job") -> str:
        """What a job prints, as a pattern of sbatch: %j and %A_%a are SLURM's job and array ids."""
        return str(self.root / f"{job.stage}-{'%A_%a' if job.tasks > 1 else '%j'}.out")

    @property
    def jobs(self) -> Path:
        """The submitted jobs: id, name and sbatch command of each."""
        return self.root / "jobs.json"


def slurm_dir(config: RunConfig) -> SlurmDir:
    """The folder of a run's jobs."""
    return SlurmDir(run_folder(config).slurm)


@dataclass(frozen=True, kw_only=True)
class Job:
    """One call of sbatch: `tasks` > 1 makes it an array; `after` names the jobs that must have succeeded before."""

    run: str
    stage: str
    script: str
    command: tuple[str, ...]
    options: tuple[str, ...] = ONE_TASK
    tasks: int = 1
    after: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name squeue shows."""
        return f"{self.run}.{self.stage}"

    def __post_init__(self) -> None:
        """Raise `ConfigError` for a name that could be anything but a name, or an argument nobody could see."""
        if not JOB_NAME.fullmatch(self.name):
            raise ConfigError(f"job name is {self.name!r}; use at most 200 letters, digits, '.', '_' or '-'")
        commands.checked([*self.options, *self.command])


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
    """For every config with missing shards the array that builds them; its last task writes the manifests."""
    wanted = [(f"eval.{one.name}", one.data, evaluation_sources(one)) for one in evaluations]
    if start == "data_prep":
        wanted.insert(0, ("run", config.data, config.train.sources + config.train.heldout))
    folder, slurm = slurm_dir(config), config.slurm
    building: set[Path] = set()
    after: tuple[str, ...] = ()
    for what, data, sources in wanted:
        missing = [name for name in missing_shards(data, sources) if Path(data.shards) / name not in building]
        if not missing:
            continue
        building |= {Path(data.shards) / name for name in missing}
        stage, tasks = f"data_prep.{what}", slurm.prep_tasks
        command = tuple(commands.data_prep(python, folder.config(what), missing, tasks, slurm.cpus_per_task))
        yield Job(run=config.name, stage=stage, script="data_prep", command=command, tasks=tasks, after=after)
        after = (stage,)


def _training(config: RunConfig, cluster: Cluster, after: tuple[str, ...], python: str) -> Job:
    settings = slurm_dir(config).config("run")
    options = [f"--nodes={cluster.nodes}", f"--ntasks-per-node={cluster.ranks_per_node}"]
    if cluster.gpus_per_node:
        options.append(f"--gres=gpu:{cluster.gpus_per_node}")
    options.append(f"--time={config.slurm.time}")
    if config.slurm.memory:
        options.append(f"--mem={config.slurm.memory}")
    return Job(
        run=config.name,
        stage="finetune",
        script="finetune",
        command=tuple(commands.finetune_rank(python, settings)),
        options=tuple(options),
        after=after,
    )


def _evaluation(
    config: RunConfig, evaluation: EvalConfig, cluster: Cluster, after: tuple[str, ...], python: str
) -> list[Job]:
    """The job that asks the questions and reports; or an array, each task on one GPU, and the report job behind it.

    The saved config names the run as its model, so the commands need no `--set model=`.
    """
    stage = f"eval.{evaluation.name}"
    settings = slurm_dir(config).config(stage)
    gpu = ("--gres=gpu:1",) if cluster.gpus_per_node else ()
    ask = Job(
        run=config.name,
        stage=stage,
        script="evaluate",
        command=tuple(commands.evaluate(python, settings, workers=config.slurm.eval_tasks)),
        options=(*ONE_TASK, *gpu),
        tasks=config.slurm.eval_tasks,
        after=after,
    )
    if ask.tasks == 1:
        return [ask]
    report = Job(
        run=config.name,
        stage=f"{stage}.report",
        script="evaluate",
        command=tuple(commands.report(python, settings)),
        after=(stage,),
    )
    return [ask, report]


def sbatch_argv(job: Job, config: RunConfig, ids: dict[str, str]) -> list[str]:
    """The sbatch call of `job`; `ids` gives the job ids of the stages submitted before it."""
    run, slurm = run_folder(config).root, config.slurm
    folder = SlurmDir(run / "slurm")
    argv = ["sbatch", "--parsable", f"--job-name={job.name}", f"--output={folder.log(job)}"]
    waits = [":".join(["afterok", *(ids[stage] for stage in job.after)])] if job.after else []
    if job.stage == "finetune":
        waits.append("singleton")  # two trainings of one run would write into the same folder: the second one waits
    if waits:
        argv += [f"--dependency={','.join(waits)}", "--kill-on-invalid-dep=yes"]
    for option in ("partition", "account", "qos", "constraint"):
        if value := getattr(slurm, option):
            argv.append(f"--{option}={value}")
    argv += [*job.options, f"--cpus-per-task={slurm.cpus_per_task}"]
    if job.tasks > 1:
        argv.append(f"--array=0-{job.tasks - 1}")
    return commands.checked([*argv, str(folder.script(job.script)), str(run), *job.command])
