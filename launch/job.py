"""One job of a chain: what it runs, asks for, waits for, reads and writes."""

import re
from dataclasses import dataclass

from configs.errors import ConfigError
from configs.slurm import Gpus
from launch import commands

SBATCH = ".sbatch"
JOB_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}")


@dataclass(frozen=True, kw_only=True)
class Job:
    """One call of sbatch: `tasks` > 1 or `array` make it an array; `after` names the jobs that must succeed before it.

    `asks` is the stage of `SlurmConfig` whose settings it gets; `gpus` are those of each of its `nodes`; `reads` and
    `writes` are for people. `after_how` is SLURM's word for the dependency: with `aftercorr`, task i of an array waits
    for task i of the other. `script_arguments` are further arguments of the script, before the command.
    """

    run: str
    stage: str
    script: str
    asks: str
    command: tuple[str, ...]
    nodes: int = 1
    ranks_per_node: int = 1
    gpus: Gpus = Gpus(0)
    tasks: int = 1
    array: bool = False
    after: tuple[str, ...] = ()
    after_how: str = "afterok"
    script_arguments: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()

    @property
    def scripts(self) -> tuple[str, ...]:
        """The job's script, and the one that it starts in turn."""
        return (self.script, *(word.removesuffix(SBATCH) for word in self.script_arguments if word.endswith(SBATCH)))

    @property
    def name(self) -> str:
        """The name squeue shows."""
        return f"{self.run}.{self.stage}"

    def __post_init__(self) -> None:
        """Raise `ConfigError` for an invalid job name, or an argument with unprintable characters."""
        if not JOB_NAME.fullmatch(self.name):
            raise ConfigError(f"job name is {self.name!r}; use at most 200 letters, digits, '.', '_' or '-'")
        commands.checked([*self.command])
