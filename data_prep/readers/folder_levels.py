"""Whether a path is one level too high, so that its folders are splits or whole data sets instead of classes."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from configs.errors import DataError

SPLIT = re.compile(
    r"(train(ing)?|val(id(ation)?)?|test(ing)?|dev|eval(uation)?|holdout|fold|split|part)"
    r"([\W_]*(set|data|images|split|\d+))*",
    re.IGNORECASE,
)
SHOWN = 3  # folders that a message names


def refuse_splits(path: Path, folders: Sequence[str]) -> None:
    """Raise `DataError` for a path one level too high, whose "classes" would be train and val."""
    if not all(SPLIT.fullmatch(name) for name in folders):
        return
    inside = [{entry.name for entry in (path / name).iterdir() if entry.is_dir()} for name in folders]
    if all(inside) and set.intersection(*inside):
        raise DataError(
            f"the folders of {path} are splits, not classes ({', '.join(folders)}, each with the folders"
            f" {', '.join(sorted(set.intersection(*inside))[:SHOWN])}, ...): the path of the classes is "
            f"{path / folders[0]}"
        )


def deeper_folders(path: Path, files: Iterable[str]) -> tuple[str, ...]:
    """A note if every class folder has its images in several folders inside, which may be the classes themselves.

    `files` are paths below `path`, CLASS/.../FILE. The first image that lies in its class folder ends the search.

    >>> deeper_folders(Path("data"), ["all/cat/1.jpg", "all/dog/2.jpg"])[0].partition(";")[0]
    'no class folder has an image of its own, all are one folder deeper (all: cat, dog)'
    >>> deeper_folders(Path("data"), ["cat/1.jpg", "cat/more/2.jpg", "cat/old/3.jpg"])
    ()
    """
    inside: dict[str, list[str]] = {}
    for file in files:
        parts = file.split("/", 2)
        if len(parts) < 3:
            return ()
        found = inside.setdefault(parts[0], [])
        if parts[1] not in found:
            found.append(parts[1])
    if not inside or any(len(found) < 2 for found in inside.values()):
        return ()
    first, found = next(iter(inside.items()))
    shown = ", ".join(found[:SHOWN]) + (", ..." if len(found) > SHOWN else "")
    return (
        f"no class folder has an image of its own, all are one folder deeper ({first}: {shown}); if those are the "
        f"classes, the path is {path / first}",
    )
