"""Where a result comes from: command, code, packages, machines and time of every start of a program.

    with StartLog(run.provenance).recorded(world_size=8):     # appended to the file; ended when the block ends
        ...

A start without an end was killed, or still runs. A file holds a JSON list, one object a start; one process writes it.
"""

import json
import os
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from data_prep.atomic import write_json

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = (
    *("vlm-classify", "torch", "transformers", "deepspeed", "peft", "numpy", "pillow", "webdataset"),
    *("flash-attn", "liger-kernel", "triton", "simplejpeg", "open_clip_torch"),
)
"""Packages whose version may change a result; those that are not installed are left out."""


FINISHED = "finished"


class StartLog:
    """The starts of the program that writes one folder."""

    def __init__(self, file: Path):
        """`file` need not exist; an unreadable one is replaced, as nothing depends on it."""
        self.file = file
        self._starts = read_starts(file)

    def begin(self, **about: Any) -> None:
        """Append a start that begins now, with `about` in addition to `describe_process`."""
        self._starts.append(describe_process() | about | {"start": _now(), "end": None, "outcome": None})
        self._write()

    def end(self, outcome: str) -> None:
        """The start that `begin` appended ends now; `outcome` says how."""
        self._starts[-1] |= {"end": _now(), "outcome": outcome}
        self._write()

    @contextmanager
    def recorded(self, **about: Any) -> Iterator[None]:
        """The block is a start; it ends as `finished`, or with the error that ends it."""
        self.begin(**about)
        try:
            yield
        except BaseException as error:
            self.end(f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}".removesuffix(": "))
            raise
        self.end(FINISHED)

    def _write(self) -> None:
        """A full disk does not end a run for this file's sake."""
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            write_json(self.file, self._starts)
        except OSError as error:
            print(f"provenance is not recorded in {self.file} ({error.strerror})", file=sys.stderr, flush=True)


def read_starts(file: Path) -> list[dict[str, Any]]:
    """The starts in `file`, oldest first; none if there is no such file, or it is damaged."""
    try:
        starts = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return [start for start in starts if isinstance(start, dict)] if isinstance(starts, list) else []


def describe_process() -> dict[str, Any]:
    """This process: `command`, `code`, `packages`, `python`, `host`, `gpus` and `cpus`.

    `code` has the commit of the repository and whether a tracked file differs from it; None without a repository.
    """
    return {
        "command": command_line(sys.argv),
        "code": code_version(),
        "packages": package_versions(),
        "python": sys.version.split()[0],
        "host": socket.gethostname(),
        "gpus": visible_gpus(),
        "cpus": len(os.sched_getaffinity(0)),
    }


def command_line(argv: Sequence[str]) -> str:
    """What was typed, as far as a process knows: a module of the project as `python -m`.

    >>> command_line([str(ROOT / "eval/run.py"), "--config", "my file.yaml"])
    "python -m eval.run --config 'my file.yaml'"
    """
    program = Path(argv[0])
    words = [word for word in argv[1:] if not word.startswith("--local_rank")]  # the launcher's, of one rank
    if program.suffix == ".py" and program.is_absolute() and program.is_relative_to(ROOT):
        start = ["python", "-m", ".".join(program.relative_to(ROOT).with_suffix("").parts)]
    elif program.suffix == ".py":
        start = ["python", str(program)]
    else:
        start = [program.name]
    return shlex.join([*start, *words])


@cache
def code_version() -> dict[str, Any] | None:
    """Commit of the project's repository and whether its tracked files are unchanged; None if it is not in one."""
    commit = _git("rev-parse", "HEAD")
    if commit is None:
        return None
    changed = _git("status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "clean": None if changed is None else changed == ""}


def _git(*arguments: str) -> str | None:
    if not (ROOT / ".git").exists():  # an installed copy may lie in somebody else's repository
        return None
    try:
        ended = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return ended.stdout.strip() if ended.returncode == 0 else None


@cache
def package_versions() -> Mapping[str, str]:
    """Name to version of the installed `PACKAGES`, and the version of CUDA that torch was built for."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    torch = sys.modules.get("torch")
    if torch is not None and torch.version.cuda:
        found["CUDA"] = str(torch.version.cuda)
    return found


def visible_gpus() -> list[str]:
    """Names of the GPUs that this process sees; empty in a program that does not use torch, which is not imported."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return []
    return [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]


def _now() -> str:
    """Seconds in UTC, such as 2026-03-01T12:00:00Z."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
