"""Settings of a cluster: what each stage of a run asks of SLURM, and how its commands are started there."""

import dataclasses
import re
from dataclasses import dataclass

from configs.errors import ConfigError
from configs.section import Section, setting

STAGES = ("data_prep", "train", "eval", "report")
GPUS = re.compile(r"(?:([A-Za-z][A-Za-z0-9_.-]*):)?(\d{1,4})")


@dataclass(frozen=True, kw_only=True)
class SlurmStage(Section):
    """What the jobs of one stage ask for where it differs from the general settings of `slurm`."""

    partition: str | None = setting(None, doc="--partition; null: slurm.partition.", changes_result=False)
    account: str | None = setting(None, doc="--account; null: slurm.account.", changes_result=False)
    qos: str | None = setting(None, doc="--qos; null: slurm.qos.", changes_result=False)
    constraint: str | None = setting(None, doc="--constraint; null: slurm.constraint.", changes_result=False)
    time: str | None = setting(
        None, doc="--time; null: slurm.time for the training, the script's line for others.", changes_result=False
    )
    memory: str | None = setting(
        None, doc="--mem per node; null: slurm.memory for the training, the script's for others.", changes_result=False
    )
    cpus_per_task: int | None = setting(
        None, doc="CPU cores per rank or worker; null: slurm.cpus_per_task.", at_least=1, changes_result=False
    )
    gpus: str | None = setting(
        None,
        doc="GPUs per node, such as 8 or h100:8; null: of the training --gpus-per-node or slurm.gpus, of an evaluation "
        "one. Reports take none.",
        changes_result=False,
    )
    options: tuple[str, ...] = setting(
        tuple, doc="Further options of sbatch, after those of slurm.options.", changes_result=False
    )


@dataclass(frozen=True, kw_only=True)
class SlurmConfig(Section):
    """Settings of your cluster; `launch.submit` passes them to sbatch."""

    partition: str | None = setting(None, doc="--partition", changes_result=False)
    account: str | None = setting(None, doc="--account", changes_result=False)
    qos: str | None = setting(None, doc="--qos", changes_result=False)
    constraint: str | None = setting(None, doc="--constraint", changes_result=False)
    cpus_per_task: int = setting(8, doc="CPU cores per rank.", at_least=1, changes_result=False)
    memory: str | None = setting(
        None, doc="--mem per node of the training job, for example 200G.", changes_result=False
    )
    time: str = setting(
        "24:00:00", doc="--time of the training job, [days-]hours:minutes:seconds.", changes_result=False
    )
    gpus: str | None = setting(
        None,
        doc="GPUs per node of the training, such as 8 or h100:8; an evaluation takes one of this type.",
        changes_result=False,
    )
    gpu_option: str = setting(
        "gres",
        doc="GPUs are requested by --gres=gpu:... or --gpus-per-node=...",
        choices=("gres", "gpus-per-node"),
        changes_result=False,
    )
    options: tuple[str, ...] = setting(
        tuple,
        doc="Further options of sbatch for every job, passed as given, such as --reservation=NAME.",
        changes_result=False,
    )
    prep_tasks: int = setting(1, doc="Array tasks of the data_prep job.", at_least=1, changes_result=False)
    eval_tasks: int = setting(1, doc="Array tasks of each evaluation job.", at_least=1, changes_result=False)
    setup: tuple[str, ...] = setting(
        tuple, doc="Shell lines run first in every job, such as `module load cuda`.", changes_result=False
    )
    wrapper: tuple[str, ...] = setting(
        tuple,
        doc="Words put before the command of every job, such as [apptainer, exec, --nv, image.sif]; "
        "[srun, --container-image=...] for Pyxis.",
        changes_result=False,
    )
    python: str | None = setting(
        None, doc="Python of the jobs; null: the one that runs launch.submit.", changes_result=False
    )
    data_prep: SlurmStage = setting(SlurmStage, doc="Shards.", changes_result=False)
    train: SlurmStage = setting(SlurmStage, doc="Training.", changes_result=False)
    eval: SlurmStage = setting(SlurmStage, doc="Evaluations.", changes_result=False)
    report: SlurmStage = setting(
        SlurmStage, doc="Jobs that merge the answers of several evaluation tasks.", changes_result=False
    )

    def of_stage(self, name: str) -> SlurmStage:
        """The settings of the stage `name` (of `STAGES`), the general ones where it has none; `gpus` stays its own."""
        stage: SlurmStage = getattr(self, name)
        general: dict[str, object] = {
            field: getattr(self, field) for field in ("partition", "account", "qos", "constraint", "cpus_per_task")
        }
        if name == "train":
            general |= {"time": self.time, "memory": self.memory}
        missing = {field: value for field, value in general.items() if getattr(stage, field) is None}
        return dataclasses.replace(stage, options=(*self.options, *stage.options), **missing)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Gpus:
    """GPUs of one node: how many, and their type as SLURM names it (None: any)."""

    count: int
    kind: str | None = None

    def __str__(self) -> str:
        """As in `gpus: h100:8`."""
        return f"{self.kind}:{self.count}" if self.kind else str(self.count)


def gpus_of(text: str, what: str) -> Gpus:
    """The GPUs that the setting `what` asks for; raises `ConfigError`.

    >>> gpus_of("h100:8", "slurm.gpus"), gpus_of("2", "slurm.gpus")
    (Gpus(count=8, kind='h100'), Gpus(count=2, kind=None))
    """
    match = GPUS.fullmatch(text)
    if match is None:
        raise ConfigError(f"{what} is {text!r}; give a number of GPUs per node, or TYPE:NUMBER such as h100:8")
    return Gpus(int(match[2]), match[1])


def training_gpus(slurm: SlurmConfig, asked: int | None) -> Gpus:
    """GPUs per node of the training: of slurm.train.gpus, slurm.gpus, or `asked`, the command line's number.

    Raises `ConfigError` if there is none, or two that differ.
    """
    what = "slurm.train.gpus" if slurm.train.gpus is not None else "slurm.gpus"
    text = slurm.train.gpus if slurm.train.gpus is not None else slurm.gpus
    if text is None:
        if asked is None:
            raise ConfigError("the GPUs per node are unknown; give --gpus-per-node N (0: none) or slurm.gpus")
        return Gpus(asked)
    gpus = gpus_of(text, what)
    if asked is not None and asked != gpus.count:
        raise ConfigError(f"--gpus-per-node is {asked} and {what} is {text}; leave one out, or set {what} to the other")
    return gpus


def evaluation_gpus(slurm: SlurmConfig, count: int) -> Gpus:
    """GPUs of one evaluation task: of slurm.eval.gpus, or `count` of the type of slurm.gpus; raises `ConfigError`."""
    if slurm.eval.gpus is not None:
        return gpus_of(slurm.eval.gpus, "slurm.eval.gpus")
    return Gpus(count, gpus_of(slurm.gpus, "slurm.gpus").kind if slurm.gpus is not None and count else None)
