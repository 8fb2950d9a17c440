"""A folder of photographs as a person gives it: its training and its test part, or one sentence on what it lacks."""

import difflib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from configs.errors import ConfigError, DataError
from configs.words import counted
from data_prep.readers import image_folder
from data_prep.sample import Source

PARTS = ("train", "test")
TRAIN, TEST = ("train", "training"), ("test", "testing", "val", "validation")  # names of parts, in any case
SHOWN = 4  # names in a message
CLASSES = "one sub-folder of photographs for each class"


@dataclass(frozen=True)
class Photos:
    """The training and the test source: the path of each and the options of its reader."""

    train: Path
    test: Path
    divided: bool  # one folder for both

    @classmethod
    def of(cls, folder: Path) -> "Photos":
        """The sources in `folder`; a part without the other one is divided. Raises `ConfigError` if there is none."""
        if not folder.is_dir():
            raise ConfigError(_not_found(folder))
        if "${" in str(folder):
            raise ConfigError(f"the path {folder} has ${{, which settings read as a reference; rename the folder")
        parts = {path.name.lower(): path for path in _folders(folder)}
        train, test = (next((parts[name] for name in names if name in parts), None) for names in (TRAIN, TEST))
        if train and test:
            return cls(train, test, divided=False)
        alone = train or test
        if alone and len(parts) == 1 and _folders(alone):
            return cls(alone, alone, divided=True)
        return cls(folder, folder, divided=True)

    def path(self, part: str) -> Path:
        """The folder of a part."""
        return self.train if part == "train" else self.test

    def read(self, part: str) -> Source:
        """The records of a part. Raises `DataError` or `ConfigError` if a folder cannot be read as classes."""
        return image_folder.read(self.path(part), part=part if self.divided else None)

    def read_all(self) -> dict[str, Source]:
        """Both parts. Raises `DataError` for fewer than two classes, in words that name the folder to give."""
        _refuse_without_classes(self.train)
        if self.divided:
            _refuse_lone_photographs(self.train)
        return {part: self.read(part) for part in PARTS}


def folder_of(words: Sequence[str], cut: Sequence[str]) -> Path:
    """The folder that `words` name; `cut` are further words. Raises `ConfigError`, with quotes for a path with spaces.

    >>> folder_of(["photos"], [])
    PosixPath('photos')
    """
    folder = Path(words[0]).expanduser()
    if not cut:
        return folder
    whole = " ".join([*words, *cut])
    if Path(whole).expanduser().is_dir() or not folder.exists():
        raise ConfigError(f'a folder whose name has a space is written in quotes: "{whole}"')
    raise ConfigError(f"not understood: {' '.join(cut)}; give one folder, and see --help for the options")


def _folders(folder: Path) -> list[Path]:
    """The visible folders in `folder`, sorted."""
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir() and not image_folder.ignored_file(path.name))
    except OSError as error:
        raise DataError(f"the folder {folder} cannot be listed ({error.strerror}); fix its permissions") from error


def _not_found(folder: Path) -> str:
    """Why there is no such folder, with the nearest name."""
    if folder.is_file():
        return f"{folder} is a file; give a folder with {CLASSES}"
    parent = next((parent for parent in folder.absolute().parents if parent.is_dir()), Path("/"))
    missing = folder.absolute().relative_to(parent).parts[0]
    siblings = (
        {path.name.casefold(): path for path in parent.iterdir() if path.is_dir()} if os.access(parent, 4) else {}
    )
    near = difflib.get_close_matches(missing.casefold(), siblings, n=1)
    if near:
        return f'no folder {folder}; did you mean "{siblings[near[0]]}"?'
    where = "" if parent == folder.absolute().parent else f" ({parent} has no {missing})"
    return f"no folder {folder}{where}; give a folder with {CLASSES}"


def _refuse_without_classes(folder: Path) -> None:
    """Raise `DataError` for a folder that has fewer than two class folders."""
    classes = _folders(folder)
    if len(classes) > 1:
        return
    if not classes:
        loose = next(_images(folder), None)
        what = "has photographs but no sub-folders" if loose else "has no sub-folders"
        raise DataError(
            f"{folder} {what}; give a folder with {CLASSES}: the photographs of class cat in {folder / 'cat'}"
        )
    inside = _folders(classes[0])
    if len(inside) > 1:
        names = ", ".join(path.name for path in inside[:SHOWN]) + (", ..." if len(inside) > SHOWN else "")
        raise DataError(
            f"{folder} has one class folder, {classes[0].name}, with the folders {names}; if those are the classes, "
            f'give "{classes[0]}"'
        )
    raise DataError(
        f"{folder} has one class, {classes[0].name}; two or more can be told apart: add a folder of other photographs"
    )


def _refuse_lone_photographs(folder: Path) -> None:
    """Raise `DataError` that names every class of one photograph, which cannot be divided."""
    lone = [path.name for path in _folders(folder) if len(list(islice(_photographs_below(path), 2))) == 1]
    if lone:
        names = ", ".join(lone[:SHOWN]) + (", ..." if len(lone) > SHOWN else "")
        raise DataError(
            f"{counted(len(lone), 'class')} with one photograph in {folder} ({names}): each class needs two, one for "
            "the training and one for the test; add photographs to them, or remove them"
        )


def _photographs_below(folder: Path) -> Iterator[Path]:
    files = (path for path in folder.rglob("*") if path.is_file() and not image_folder.ignored_file(path.name))
    return (path for path in files if image_folder.is_image(path.parent, path.name))


def _images(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.iterdir()) if path.suffix.lower() in image_folder.IMAGE_SUFFIXES)


def natural_count(classes: Sequence[str], shown: int = 6) -> str:
    """The number of classes and the first names.

    >>> natural_count(["cat", "dog"])
    '2: cat, dog'
    """
    return f"{len(classes):,}: {', '.join(classes[:shown])}{', …' if len(classes) > shown else ''}"


def extension_of(file: str) -> str:
    """The suffix of a file for a message: `.heic`; `no suffix` without one.

    >>> extension_of("a/IMG_1.HEIC"), extension_of("a/notes")
    ('.heic', 'no suffix')
    """
    found = re.search(r"\.[^./]+$", file)
    return found.group().lower() if found else "no suffix"
