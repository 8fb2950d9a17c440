"""Starts a training on this machine for `vlm-classify train run`: through DeepSpeed's launcher, one process per GPU."""

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from configs.accelerator import name_accelerator
from configs.command_line import add_base_model, add_overrides, config_of, exit_on_user_error
from configs.errors import ConfigError, UserError
from configs.ports import free_port
from configs.run import RunConfig
from configs.run_dir import RunDir
from data_prep.run_start import check_accepted, refuse_start

FINETUNE = Path(__file__).resolve().parents[1] / "train" / "finetune.py"
LAUNCHER = FINETUNE.with_name("deepspeed_launcher.py")
LAUNCHER_OPTIONS = (
    *("--num_gpus", "--num_nodes", "--hostfile", "--include", "--exclude"),
    *("--master_addr", "--master_port"),
)
"""Options passed on to `deepspeed`, before the program; all others are the program's."""
NO_TRAINING = ("-h", "--help", "--dry-run", "--print-config")


def start_ranks(arguments: Sequence[str]) -> None:
    """Replace this process by the launcher's; returns if `arguments` ask for no training.

    On a CPU the launcher starts one rank unless it is given `--num_gpus N`. A run that cannot be started is refused
    here: below a rank's error the launcher prints its own, which is longer.
    """
    if set(NO_TRAINING) & set(arguments) or not any(word.split("=")[0] == "--config" for word in arguments):
        return
    try:
        words = launcher_command(find_launcher(), arguments)
        _refuse_start(arguments)
    except UserError as error:
        exit_on_user_error(error)
    words = waiting_for_ranks(with_free_port(words))
    name_accelerator()
    sys.stdout.flush()
    os.execv(words[0], words)


def launcher_command(deepspeed: str, arguments: Sequence[str]) -> list[str]:
    """The launcher's command line, its own options moved before the program; of its own lines it prints errors only.

    >>> launcher_command("deepspeed", ["--config", "a.yaml", "--num_gpus", "2"])
    ['deepspeed', '--quiet', '--num_gpus', '2', '.../train/finetune.py', '--config', 'a.yaml']
    """
    given, program = _split(arguments)
    launcher = [word for option, value in given.items() for word in (option, value)]
    return [deepspeed, "--quiet", *launcher, str(FINETUNE), *program]


def without_launcher(arguments: Sequence[str]) -> list[str]:
    """The program's arguments for a start without the launcher; a dry run plans for the ranks that it would start.

    >>> without_launcher(["--config", "a.yaml", "--num_gpus", "2", "--dry-run"])
    ['--config', 'a.yaml', '--dry-run', '--world', '2']
    """
    given, program = _split(arguments)
    counts = [given.get(option, "1") for option in ("--num_gpus", "--num_nodes")]
    planned = any(word.split("=")[0] == "--world" for word in program)
    if "--num_gpus" not in given or planned or "--dry-run" not in program:
        return program
    if not all(count.isdecimal() and int(count) for count in counts):  # -1: all there are
        return program
    return [*program, "--world", str(int(counts[0]) * int(counts[1]))]


def _split(arguments: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """The launcher's options with their values, and the program's arguments."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for option in LAUNCHER_OPTIONS:
        parser.add_argument(option, dest=option)
    ours, program = parser.parse_known_args(list(arguments))
    return {option: value for option, value in vars(ours).items() if value is not None}, program


def _refuse_start(arguments: Sequence[str]) -> None:
    """Raise `UserError` for a config that is invalid, and for a run that is in use or would have to be resumed."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--config", type=Path)
    parser.add_argument("--resume")
    parser.add_argument("--print-config", action="store_true")
    parser.add_argument("--accept-change", action="append", default=[])
    add_overrides(parser, "")
    add_base_model(parser)
    try:
        given, _ = parser.parse_known_args(list(arguments))
    except argparse.ArgumentError:  # the program's own parser says it
        return
    config = config_of(given, RunConfig)
    check_accepted(given.accept_change, config)
    refuse_start(RunDir(Path(config.runs_dir) / config.name), resume=given.resume == "auto")


def with_free_port(words: Sequence[str]) -> list[str]:
    """The launcher's command line, its ranks meeting at a free port: another training may use the default one.

    A port that is given, ranks on other machines, and commands of other programs are left as they are.

    >>> with_free_port(["deepspeed", "--master_port", "29501", "train/finetune.py"])
    ['deepspeed', '--master_port', '29501', 'train/finetune.py']
    """
    program = next((position for position, word in enumerate(words) if word.endswith(".py")), 0)
    options = {word.partition("=")[0] for word in words[1:program]}
    fixed = {"--master_port", "--master_addr", "--hostfile", "--num_nodes", "--include", "--exclude"}
    if not program or Path(words[0]).name != "deepspeed" or fixed & options:
        return list(words)
    return [words[0], "--master_port", str(free_port()), *words[1:]]


def waiting_for_ranks(words: Sequence[str]) -> list[str]:
    """The command line that is run for `words`: the launcher of this Python by the file that waits for its ranks.

    >>> waiting_for_ranks(["/opt/venv/bin/deepspeed", "--quiet", "train/finetune.py"])
    ['/opt/venv/bin/python', '.../train/deepspeed_launcher.py', '--quiet', 'train/finetune.py']
    """
    if words[0] == str(Path(sys.executable).with_name("deepspeed")):
        return [sys.executable, str(LAUNCHER), *words[1:]]
    return list(words)


def find_launcher() -> str:
    """Path of `deepspeed`, in the folder of this Python or on the PATH; raises `ConfigError`."""
    installed = Path(sys.executable).with_name("deepspeed")
    found = str(installed) if installed.exists() else shutil.which("deepspeed")
    if found is None:
        raise ConfigError("deepspeed is not installed for this Python; run `make setup`, or pip install deepspeed")
    return found
