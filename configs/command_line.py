"""Command lines: parsers with readable help, options that mean the same in every program, errors in one line."""

import argparse
import atexit
import dataclasses
import json
import os
import select
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, TypeVar

from configs.accelerator import name_accelerator
from configs.base_models import base_model_names, base_model_overrides
from configs.errors import BUILD_SHARDS, UserError
from configs.load import describe, load_config
from configs.section import Section, limits_in_words, section_in

C = TypeVar("C", bound=Section)


_invocation: ContextVar[tuple[str, Mapping[str, str]] | None] = ContextVar("_invocation", default=None)
_build: ContextVar[str] = ContextVar("_build", default=BUILD_SHARDS)  # with the file and settings of this program
DECIDE_DATA = (
    "data",
    "source",
    "model",
    "data_from",
    "name",
    "runs_dir",
    "recipe",
    "seed",
)  # by a setting's first word


@contextmanager
def called_as(program: str, spellings: Mapping[str, str]) -> Iterator[None]:
    """Within it, parsers call their program `program`, and their help writes commands as `spellings` says.

    >>> with called_as("vlm-classify eval run", {"python -m eval.run": "vlm-classify eval run"}):
    ...     eval.run.main()
    """
    token = _invocation.set((program, spellings))
    try:
        yield
    finally:
        _invocation.reset(token)


def command_parser(doc: str | None) -> argparse.ArgumentParser:
    """A parser whose `--help` begins with `doc`, a program's module docstring: what it does, and commands to copy."""
    end_without_traceback()
    name_accelerator()
    program: str | None = None
    if invocation := _invocation.get():
        program, spellings = invocation
        for module_command in sorted(spellings, key=len, reverse=True):  # eval.reproduce before eval.run
            doc = doc and doc.replace(module_command, spellings[module_command])
    elif spec := getattr(sys.modules["__main__"], "__spec__", None):  # None for a file that is started by its path
        program = f"python -m {spec.name}"
    return argparse.ArgumentParser(
        prog=program,
        description=doc,
        formatter_class=_HelpFormatter,
    )


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Keeps the lines of descriptions, and adds an option's default value where its help does not say it."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        text, default = action.help, action.default
        shown = isinstance(default, int | float | str | Path) and not isinstance(default, bool)
        if text is None or not shown or default == argparse.SUPPRESS or "default" in text:
            return text
        return f"{text} (default: %(default)s)"


def config_parser(doc: str | None, schema: type[Section]) -> argparse.ArgumentParser:
    """The arguments every program with a config has; its help lists all settings of `schema`."""
    parser = command_parser(doc)
    parser.epilog = f"settings for the YAML file and --set:\n{settings_help(schema)}"
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="YAML file; see configs/")
    add_overrides(parser, "override one setting, e.g. --set train.epochs=3 (may be repeated)")
    parser.add_argument(
        "--print-config", action="store_true", help="print the resolved settings with where each came from, and stop"
    )
    return parser


def add_overrides(parser: argparse.ArgumentParser, about: str) -> None:
    """`--set KEY=VALUE`, which may be repeated: settings over those of a file, as a list in `overrides`."""
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides", help=about)


def add_base_model(parser: argparse.ArgumentParser) -> None:
    """`--base NAME`: the base model and the settings that fit it (`configs.base_models`); read by `config_of`."""
    parser.add_argument(
        "--base",
        metavar="MODEL",
        dest="base_model",
        help=f"base model with settings that fit it: {', '.join(base_model_names())}; or a folder or hub id",
    )


def output_file(text: str) -> Path:
    """For `type=`: an output file; its folder is created now, so that results are not lost at the end."""
    path = Path(text).expanduser()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise argparse.ArgumentTypeError(f"cannot make the folder {path.parent} ({error.strerror})") from error
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{path} is a folder; name a file in it")
    return path


def output_has_colours() -> bool:
    """Whether standard output is a terminal that shows colours; NO_COLOR (https://no-color.org) switches them off."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


STDOUT = Path("-")  # what `--json` without a file means


def add_json(parser: argparse.ArgumentParser, what: str = "the results") -> None:
    """`--json [FILE]`: print `what` as JSON in place of text, or write it to FILE. Pass its value to `emit_json`."""
    parser.add_argument(
        "--json",
        nargs="?",
        type=output_file,
        const=STDOUT,
        metavar="FILE",
        help=f"print {what} as JSON in place of text, or write it to FILE",
    )


def emit_json(target: Path | None, values: object) -> bool:
    """Print `values` as JSON, or write them to the file `target`; True if they were printed, in place of text."""
    text = json.dumps(values, indent=1, ensure_ascii=False) + "\n"
    if target == STDOUT:
        sys.stdout.write(text)
    elif target is not None:
        target.write_text(text, encoding="utf-8")
    return target == STDOUT


def add_output_file(parser: argparse.ArgumentParser, what: str) -> None:
    """`--output FILE`: write `what` to FILE; its folder is created before the work starts."""
    parser.add_argument("--output", type=output_file, metavar="FILE", help=f"write {what} to FILE")


def add_output_folder(parser: argparse.ArgumentParser, what: str, default: Path | str | None = None) -> None:
    """`--output FOLDER`: write `what` to FOLDER; required unless there is a `default`, a folder or a description."""
    parser.add_argument(
        "--output",
        type=Path,
        required=default is None,
        default=default if isinstance(default, Path) else None,
        metavar="FOLDER",
        help=f"write {what} to FOLDER" + (f" (default: {default})" if default is not None else ""),
    )


def add_dry_run(parser: argparse.ArgumentParser, shown: str) -> None:
    """`--dry-run`: print `shown` and stop; nothing is started, loaded or written."""
    parser.add_argument("--dry-run", action="store_true", help=f"print {shown} and stop")


def at_least(least: int) -> Callable[[str], int]:
    """For `type=`: a whole number that is not below `least`."""

    def number(text: str) -> int:
        if int(text) < least:
            raise argparse.ArgumentTypeError(f"{text} is below {least}")
        return int(text)

    return number


def config_of(arguments: argparse.Namespace, schema: type[C]) -> C:
    """The config of `--config`, `--base` and `--set`; with `--print-config` the program prints it and ends.

    Raises `ConfigError` as `load_config`.
    """
    named = base_model_overrides(getattr(arguments, "base_model", None))
    config, origins = load_config(schema, arguments.config, [*named, *arguments.overrides])
    _build.set(build_command(arguments.config, getattr(arguments, "base_model", None), arguments.overrides))
    if arguments.print_config:
        print(describe(config, origins))
        raise SystemExit(0)
    return config


def build_command(config: Path, base_model: str | None, overrides: Sequence[str]) -> str:
    """The command that builds the shards of a config, with those of its options that decide about data.

    >>> build_command(Path("a.yaml"), None, ["data.shards=my shards", "train.epochs=3"])
    "python -m data_prep.build --config a.yaml --set 'data.shards=my shards'"
    """
    base = ["--base", base_model] if base_model else []
    deciding = [text for text in overrides if text.partition("=")[0].split(".")[0] in DECIDE_DATA]
    words = [*base, *(word for text in deciding for word in ("--set", text))]
    return shlex.join([*BUILD_SHARDS.split()[:-1], str(config), *words])


def settings_help(schema: type[Section], prefix: str = "  ") -> str:
    """One line a setting: dotted name, default, documentation with limits; NAME is a name that the file chooses.

    Settings of a section follow those of the section that contains it, also where names are mapped to sections.
    """
    lines = []
    for spec in dataclasses.fields(schema):
        inner = section_in(spec)
        if inner is not spec.type:
            value = spec.default if spec.default_factory is dataclasses.MISSING else spec.default_factory()
            default = "(required)" if value is dataclasses.MISSING else _as_yaml(value)
            meaning = " ".join([spec.metadata["doc"], *limits_in_words(spec)])
            lines.append(f"{prefix}{spec.name} = {default}\n        {meaning}")
        if inner is not None:
            key = "" if inner is spec.type else "NAME."
            lines.append(settings_help(inner, f"{prefix}{spec.name}.{key}"))
    return "\n".join(lines)


def _as_yaml(value: Any) -> str:
    """A default as it is written in a YAML file."""
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)


def tell_user_error(error: UserError) -> None:
    """Print the error as one line; a command that builds shards is that of the program's config."""
    text = " ".join(str(error).split()).replace(BUILD_SHARDS, _build.get())
    print(f"error: {text}", file=sys.stderr, flush=True)


def exit_on_user_error(error: UserError) -> NoReturn:
    """Print the error as one line and exit with code 2, the code of every error that a user can fix."""
    tell_user_error(error)
    raise SystemExit(2)


@cache
def end_without_traceback() -> None:
    """From now on this process ends without a traceback on Ctrl-C, and once nobody reads its output: `... | head`."""
    usual = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        if isinstance(error, KeyboardInterrupt):
            print("interrupted; stored results are kept: the same command continues", file=sys.stderr)
        elif not (isinstance(error, BrokenPipeError) and _reader_is_gone()):  # another pipe may break as well
            usual(kind, error, traceback)

    sys.excepthook = hook
    atexit.register(_discard_unread)


def _discard_unread() -> None:
    """Flush both outputs; what nobody reads is discarded here, as Python would print an error for it at its end."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, stream.fileno())
            os.close(null)
        except (ValueError, OSError):  # it is closed, or its disk is full
            continue


def _reader_is_gone() -> bool:
    """Whether standard output or standard error is a pipe that nobody reads."""
    poll = select.poll()
    for descriptor in (1, 2):
        poll.register(descriptor, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))
