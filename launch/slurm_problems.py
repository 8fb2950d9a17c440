"""Values of the `slurm` section that sbatch would refuse, misread, or that would undo what a chain of jobs needs."""

import re
from collections.abc import Iterator
from functools import cache

from configs.errors import ConfigError
from configs.slurm import STAGES, SlurmConfig, SlurmStage, gpus_of
from launch.commands import SCRIPTS, check_printable

TIME = re.compile(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?")
MEMORY = re.compile(r"\d+[KMGT]?")
ACCOUNTING_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._,:@+-]{0,199}")
CONSTRAINT = re.compile(r"[A-Za-z0-9_.,:|&*()\[\]=-]{1,200}")
OPTION = re.compile(r"--[a-z][a-z0-9-]*(=.*)?|-[A-Za-z].*")
SHORT = {
    "-J": "--job-name",
    "-o": "--output",
    "-d": "--dependency",
    "-a": "--array",
    "-D": "--chdir",
    "-p": "--partition",
    "-A": "--account",
    "-q": "--qos",
    "-C": "--constraint",
    "-t": "--time",
    "-N": "--nodes",
    "-n": "--ntasks",
    "-c": "--cpus-per-task",
    "-G": "--gpus",
    "-W": "--wait",
}
SETTINGS = {
    **{f"--{name}": name for name in ("partition", "account", "qos", "constraint", "time")},
    "--mem": "memory",
    "--cpus-per-task": "cpus_per_task",
    "--gpus-per-node": "gpus",
    "--gpus": "gpus",
    "--gpus-per-task": "gpus",
}
"""Options that have a setting."""
OURS = (
    *("--job-name", "--output", "--dependency", "--kill-on-invalid-dep", "--parsable", "--chdir", "--wrap", "--wait"),
    *(
        "--array",
        "--nodes",
        "--ntasks",
        "--ntasks-per-node",
        "--test-only",
        "--signal",
        "--gpu-bind",
        "--help",
        "--version",
    ),
)
"""Options whose values the chain depends on."""


def slurm_problems(slurm: SlurmConfig) -> Iterator[str]:
    """Every problem of the section, one line each."""
    for name in STAGES:
        yield from _request(getattr(slurm, name), f"slurm.{name}")
    yield from _request(slurm, "slurm")
    train_time = slurm.train.time or slurm.time
    seconds = time_seconds(train_time)
    if seconds is not None and seconds < 2 * signal_seconds():
        name = "slurm.train.time" if slurm.train.time else "slurm.time"
        least = f"at least {2 * signal_seconds() // 60} minutes"
        yield f"{name} is {train_time!r}; a job saves {signal_seconds()} s before it ends: give {least}"
    if slurm.report.gpus not in (None, "0"):
        yield f"slurm.report.gpus is {slurm.report.gpus!r}; a report uses no GPU: leave it out"
    for text_name, lines in (("setup", slurm.setup), ("wrapper", slurm.wrapper), ("python", (slurm.python or "x",))):
        yield from _unprintable(lines, f"slurm.{text_name}")
    if any(not word for word in slurm.wrapper):
        yield "slurm.wrapper has an empty word; remove it"
    elif slurm.wrapper and any(map(str.isspace, slurm.wrapper[0])):
        yield f"slurm.wrapper begins with {slurm.wrapper[0]!r}; give each word as one entry: [apptainer, exec, IMAGE]"


def _request(stage: SlurmConfig | SlurmStage, prefix: str) -> Iterator[str]:
    """Problems of the settings that the general section and those of stages share."""
    for name, pattern in (
        ("partition", ACCOUNTING_NAME),
        ("account", ACCOUNTING_NAME),
        ("qos", ACCOUNTING_NAME),
        ("constraint", CONSTRAINT),
    ):
        value = getattr(stage, name)
        if value is not None and not pattern.fullmatch(value):
            yield f"{prefix}.{name} is {value!r}; it must match {pattern.pattern}"
    if stage.memory is not None and not MEMORY.fullmatch(stage.memory):
        yield f"{prefix}.memory is {stage.memory!r}; give a number with K, M, G or T, for example 200G"
    if stage.time is not None:
        yield from _time(stage.time, f"{prefix}.time")
    if stage.gpus is not None:
        try:
            gpus_of(stage.gpus, f"{prefix}.gpus")
        except ConfigError as error:
            yield str(error)
    yield from _unprintable(stage.options, f"{prefix}.options")
    for number, option in enumerate(stage.options):
        if option.isprintable():
            yield from _option(option, f"{prefix}.options[{number}]", prefix)


def _time(text: str, name: str) -> Iterator[str]:
    if time_seconds(text) is None:
        yield f"{name} is {text!r}; give [days-]hours:minutes:seconds, for example 24:00:00"
    elif text.isdigit():
        yield f"{name} is {text!r}, which SLURM reads as minutes; give hours:minutes:seconds, for example 24:00:00"


def _unprintable(texts: tuple[str, ...], name: str) -> Iterator[str]:
    for number, text in enumerate(texts):
        try:
            check_printable(text, f"{name}[{number}]")
        except ConfigError as error:
            yield str(error)


def _option(option: str, name: str, prefix: str) -> Iterator[str]:
    """Problems of one entry of `options`; any other option of sbatch passes, whatever its value."""
    if not OPTION.fullmatch(option):
        yield f"{name} is {option!r}; write an option as one entry, --NAME=VALUE or --NAME (sbatch runs other words)"
        return
    flag, _, value = option.partition("=")
    if not option.startswith("--"):
        flag = SHORT.get(option[:2], option[:2])
    match = next((ours for ours in (*SETTINGS, *OURS) if flag == ours), None)
    if match is None and flag.startswith("--") and len(flag) > 4:  # sbatch accepts abbreviations
        match = next((ours for ours in (*SETTINGS, *OURS) if ours.startswith(flag)), None)
    if flag.startswith("--no-r") and "--no-requeue".startswith(flag):
        yield f"{name} is {option!r}; a training is queued again at its time limit: leave it out"
    elif match in SETTINGS:
        yield f"{name} is {option!r}; use the setting {prefix}.{SETTINGS[match]}"
    elif match is not None:
        yield f"{name} is {option!r}; launch.submit sets {match}: leave it out"
    elif flag == "--gres" and re.search(r"(^|,)(gres[:/])?gpu\b", value):
        yield f"{name} is {option!r}; use the setting {prefix}.gpus for GPUs"


def time_seconds(text: str) -> int | None:
    """Seconds of a time as sbatch reads it, or None if it would not.

    >>> [time_seconds(t) for t in ("90", "10:30", "24:00:00", "1-12", "1-12:30", "soon")]
    [5400, 630, 86400, 129600, 131400, None]
    """
    match = TIME.fullmatch(text)
    if not match:
        return None
    days, first, second, third = (None if part is None else int(part) for part in match.groups())
    if days is not None:  # days-hours[:minutes[:seconds]]
        hours, minutes, seconds = first or 0, second or 0, third or 0
    elif third is not None:  # hours:minutes:seconds
        hours, minutes, seconds = first or 0, second or 0, third
    else:  # minutes[:seconds]
        hours, minutes, seconds = 0, first or 0, second or 0
    return (((days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds


@cache
def signal_seconds() -> int:
    """Seconds before its time limit at which a training job gets the signal to save, from slurm/finetune.sbatch."""
    found = script_option("finetune", "--signal")
    match = re.fullmatch(r"B:USR1@(\d+)", found or "")
    if match is None:
        raise ConfigError(f"{SCRIPTS.script('finetune')} has no line `#SBATCH --signal=B:USR1@SECONDS`; restore it")
    return int(match[1])


@cache
def script_option(script: str, option: str) -> str | None:
    """The value of `option` on a `#SBATCH` line of slurm/SCRIPT.sbatch; None without such a line.

    >>> script_option("evaluate", "--time")
    '12:00:00'
    """
    text = SCRIPTS.script(script).read_text(encoding="utf-8")
    match = re.search(rf"^#SBATCH {option}=(\S+)$", text, re.MULTILINE)
    return match[1] if match else None
