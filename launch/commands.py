"""The commands of every stage as argument lists; no other module knows how a stage is called.

Lists, never shell strings: a value can hold spaces, quotes or `$(...)` and is still one argument. Only `as_typed`
returns a string, for people to read and copy.

    finetune_rank("python", Path("configs/demo.yaml"))
    -> ["python", "train/finetune.py", "--config", "configs/demo.yaml", "--resume", "auto"]
"""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from configs.errors import ConfigError
from configs.run_dir import SlurmDir

FINETUNE = "train/finetune.py"
SCRIPTS = SlurmDir(Path(__file__).resolve().parents[1] / "slurm")  # the job scripts of the repository


def working_directory_problem() -> str | None:
    """Why the commands of a training would not be found from here; None if they would."""
    if Path(FINETUNE).is_file():
        return None
    return f"{Path.cwd()} has no {FINETUNE}; run this in the root folder of the repository"


def data_prep(
    python: str,
    config: Path,
    sources: Sequence[str] = (),
    workers: int = 1,
    processes: int = 1,
    overrides: Sequence[str] = (),
) -> list[str]:
    """Raw data to shards, of all sources or of `sources` only. For `workers` > 1 the array's script adds `--worker i`.

    >>> data_prep("python", Path("a.yaml"), ["cars", "birds"], workers=4)
    ['python', '-m', 'data_prep.build', '--config', 'a.yaml', '--sources', 'cars,birds', '--workers', '4']
    """
    only = ["--sources", ",".join(sources)] if sources else []
    parallel = ["--processes", str(processes)] if processes > 1 else []
    return checked(
        [python, "-m", "data_prep.build", *_settings(config, overrides), *only, *parallel, *_workers(workers)]
    )


def finetune_local(deepspeed: str, config: Path, overrides: Sequence[str] = (), ranks: int | None = None) -> list[str]:
    """Training on this machine. `ranks` is needed on a CPU, where DeepSpeed starts only one by default.

    `--quiet` leaves out the launcher's own lines but its errors.
    """
    count = [] if ranks is None else ["--num_gpus", str(ranks)]
    return checked([deepspeed, "--quiet", *count, FINETUNE, *_settings(config, overrides), "--resume", "auto"])


def finetune_rank(python: str, config: Path) -> list[str]:
    """The command that srun starts once per rank."""
    return checked([python, FINETUNE, *_settings(config), "--resume", "auto"])


def evaluate(python: str, config: Path, overrides: Sequence[str] = (), workers: int = 1) -> list[str]:
    """Evaluates and, with one worker, reports. For `workers` > 1 the array's script appends `--worker i`."""
    return checked([python, "-m", "eval.run", *_settings(config, overrides), *_workers(workers)])


def report(python: str, config: Path) -> list[str]:
    """Merges all workers' answers into the report of one evaluation."""
    return checked([python, "-m", "eval.run", *_settings(config), "--report-only"])


def reproduce(python: str, arguments: Sequence[str], workers: int = 1) -> list[str]:
    """Evaluates every row of the paper's experiments. For `workers` > 1 the array's script appends `--worker i`."""
    return checked([python, "-m", "eval.reproduce", *arguments, *_workers(workers)])


def compare(python: str, output: Path, models: Mapping[str, Path]) -> list[str]:
    """One table and `report.html` in `output` from the evaluations of several models, `{name: folder of them}`."""
    folders = [f"{name}={folder}" for name, folder in models.items()]
    return checked([python, "-m", "eval.compare", "--output", str(output), *folders])


def as_typed(argv: Sequence[str], **names: str) -> str:
    """The command as one would type it; `names` shortens programs: `as_typed(argv, python=sys.executable)`.

    >>> as_typed(["/opt/venv/bin/python", "-m", "eval.run", "--set", "name=a b"], python="/opt/venv/bin/python")
    "python -m eval.run --set 'name=a b'"
    """
    short = {path: name for name, path in names.items()}
    return shlex.join([short.get(argument, argument) for argument in argv])


def checked(argv: list[str]) -> list[str]:
    """`argv` itself; raises `ConfigError` for an argument with an unprintable character."""
    for argument in argv:
        check_printable(argument, "argument")
    return argv


def check_printable(text: str, what: str) -> None:
    """Raise `ConfigError` if `text` holds a newline, another control character or an invisible one.

    They have no use in a name, a path or a setting, and could add lines to a job script.
    """
    for position, character in enumerate(text):
        if not character.isprintable():
            raise ConfigError(
                f"{what} {text!r} has the unprintable character {character!r} at position {position}; remove it"
            )


def _settings(config: Path, overrides: Sequence[str] = ()) -> list[str]:
    return ["--config", str(config), *(part for override in overrides for part in ("--set", override))]


def _workers(workers: int) -> list[str]:
    return ["--workers", str(workers)] if workers > 1 else []
