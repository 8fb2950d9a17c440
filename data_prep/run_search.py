"""What lies below a folder of runs, found without walking through shards, checkpoints or models.

    found = search(Path("runs"))
    found.runs[0].root, found.pages           # runs, and the pages of reports by the run that they lie in

At most `MOST_ENTRIES` directory entries are read, at most `MOST_OF_FOLDER` of one folder, `DEPTH` levels deep.
"""

import json
import os
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from configs.eval_dir import EvalDir, ResultsDir
from configs.run_dir import RunDir, SweepDir

DEPTH = 6
MOST_OF_FOLDER = 2_000
MOST_ENTRIES = 50_000
PAGES = (
    EvalDir(Path()).report("html").name,
    EvalDir(Path()).knn("html").name,
    RunDir(Path()).postmortem.name,
    ResultsDir(Path()).scoreboard("html").name,
    ResultsDir(Path()).accuracy("html").name,
    SweepDir(Path()).table("html").name,
    ResultsDir(Path()).agreement("html").name,
    ResultsDir(Path()).robustness("html").name,
)
FORGETTING = ResultsDir(Path()).forgetting("*", "html").name
HEAVY = (RunDir(Path()).checkpoints.name, RunDir(Path()).slurm.name, RunDir(Path()).wandb.name, "export")


@dataclass(slots=True)
class Found:
    """Runs, the pages of each (None: those in no run), and the folders of which only a part was read."""

    runs: list[RunDir] = field(default_factory=list)
    pages: dict[Path | None, list[Path]] = field(default_factory=dict)
    cut: list[Path] = field(default_factory=list)


def is_run(folder: Path) -> bool:
    """Whether `folder` is a run of this project: its configuration, with an identity or metrics."""
    run = RunDir(folder)
    return run.config.is_file() and (run.identity.is_file() or run.metrics.is_file())


def runs_folder_of(page: Path) -> Path | None:
    """The folder of all runs that a file or folder belongs to; None if it belongs to none.

    It is the parent of the outermost run that `page` lies in; otherwise the nearest folder above `page`, or `page`
    itself, that holds a run or is called `runs`.
    """
    folders = [folder for folder in (page, *page.parents) if folder != folder.parent][: DEPTH + 2]
    around = [folder for folder in folders if is_run(folder)]
    if around:
        return around[-1].parent
    return next(
        (folder for folder in folders if folder.is_dir() and (folder.name == "runs" or _holds_run(folder))), None
    )


def _holds_run(folder: Path) -> bool:
    config = RunDir(Path()).config.name
    found = (Path(entry.path, config) for entry in _entries(folder)[0] if entry.is_dir())
    return any(is_run(file.parent) for file in found if file.is_file())


def search(folder: Path) -> Found:
    """All runs and pages below `folder`; folders that cannot be read are left out."""
    found = Found()
    left = MOST_ENTRIES
    seen: set[tuple[int, int]] = set()
    waiting: list[tuple[Path, Path | None, int]] = [(folder, None, 0)]
    while waiting:
        current, run, depth = waiting.pop(0)
        if left <= 0:
            found.cut.append(current)
            break
        if run is None and depth and is_run(current):
            run = current
            found.runs.append(RunDir(current))
        entries, cut = _entries(current)
        left -= len(entries)
        found.cut += [current] * cut
        for entry in entries:
            path = Path(entry.path)
            if _is_page(entry.name) and entry.is_file():
                found.pages.setdefault(run, []).append(path)
            elif depth < DEPTH and not _skipped(entry.name, of_run=run == current) and _new_folder(entry, seen):
                waiting.append((path, run, depth + 1))
    return found


def _is_page(name: str) -> bool:
    return name in PAGES or fnmatch(name, FORGETTING)


def _skipped(name: str, *, of_run: bool) -> bool:
    return name.startswith(".") or (of_run and name.startswith(HEAVY))


def _new_folder(entry: "os.DirEntry[str]", seen: set[tuple[int, int]]) -> bool:
    """Whether `entry` is a folder that was not seen before; links to folders count, so loops end."""
    try:
        if not entry.is_dir():
            return False
        status = entry.stat()
    except OSError:
        return False
    key = (status.st_dev, status.st_ino)
    is_new = key not in seen
    seen.add(key)
    return is_new


def _entries(folder: Path) -> tuple[list["os.DirEntry[str]"], bool]:
    """The first entries of a folder, sorted by name, and whether it has more."""
    entries: list[os.DirEntry[str]] = []
    try:
        with os.scandir(folder) as listing:
            for entry in listing:
                if len(entries) == MOST_OF_FOLDER:
                    return entries, True
                entries.append(entry)
    except OSError:
        return [], False
    return sorted(entries, key=lambda entry: entry.name), False


def record_of_line(line: bytes) -> dict[str, Any] | None:
    """The JSON object of a line of metrics.jsonl; None for a line that is cut or holds another value."""
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
