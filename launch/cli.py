"""The command `vlm-classify`: finds the program of a stage and starts it.

    vlm-classify --help                 all commands
    vlm-classify eval run --config ...  the same as python -m eval.run --config ...

Modules are imported only when their command is started, so the help needs no torch.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module

from configs.command_line import called_as, end_without_traceback
from launch import completion, training
from launch.command_table import (
    COMMANDS,
    COMPLETION,
    PROGRAM,
    STAGES,
    TRAIN,
    Command,
    arguments_after,
    find,
    suggestions,
)

HELP = ("-h", "--help")


def main(argv: Sequence[str] | None = None) -> None:
    """Start the named command, or print help. Exits with code 2 if there is no such command."""
    end_without_traceback()
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in HELP:
        print("\n".join(overview()))
    elif words[0] == completion.CANDIDATES:
        print("\n".join(completion.candidates(words[1:])))
    elif words[0] == COMPLETION:
        completion.main(words[1:])
    elif command := find(words):
        start(command, arguments_after(command, words))
    elif words[0] in STAGES and (len(words) == 1 or words[1] in HELP):
        print("\n".join(stage_help(words[0])))
    else:
        sys.exit(_unknown(words))


def start(command: Command, arguments: Sequence[str]) -> None:
    """Run the command's program in this process; a training starts ranks and does not return."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # programs start worker processes
    name = f"{PROGRAM} {command.name}"
    if command == TRAIN:
        training.start_ranks(arguments)  # returns if there is nothing to train: a dry run, --help
        arguments = training.without_launcher(arguments)
    sys.argv = [name, *arguments]
    spellings = {f"python -m {each.module}": f"{PROGRAM} {each.name}" for each in COMMANDS}
    with called_as(name, {**spellings, "deepspeed train/finetune.py": f"{PROGRAM} {TRAIN.name}"}):
        result = import_module(command.module).main()
    if result is not None:
        sys.exit(result)


def overview() -> Iterator[str]:
    """Lines of `vlm-classify --help`: every command with its description, by stage."""
    yield f"usage: {PROGRAM} STAGE COMMAND [options]"
    yield ""
    yield "Train vision-language models to classify images, and evaluate them."
    for stage in STAGES:
        yield ""
        yield from _section(stage)
    yield ""
    yield f"{PROGRAM} STAGE COMMAND --help     options and settings of one command"
    yield f"{PROGRAM} {COMPLETION} bash|zsh|fish   a script for shell completion"


def stage_help(stage: str) -> Iterator[str]:
    """Lines of `vlm-classify STAGE --help`."""
    yield f"usage: {PROGRAM} {stage} COMMAND [options]"
    yield ""
    yield from _section(stage)
    yield ""
    yield f"{PROGRAM} {stage} COMMAND --help     options and settings of one command"


def _section(stage: str) -> Iterator[str]:
    yield f"{STAGES[stage]}:"
    for command in COMMANDS:
        if command.stage == stage:
            yield f"  {command.name:<26}{command.about}"


def _unknown(words: Sequence[str]) -> str | int:
    """Print that there is no such command, with those that are near. Returns the exit code."""
    typed = " ".join(words[: 2 if words[0] in STAGES else 1])
    near = [f"`{PROGRAM} {name}`" for name in suggestions(words)]
    hint = f"did you mean {' or '.join(near)}?" if near else f"see `{PROGRAM} --help`"
    print(f"error: {PROGRAM} has no command `{typed}`; {hint}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    main()
