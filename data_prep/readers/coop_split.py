"""The splits that CoOp (Zhou et al. 2022) publishes, split_zhou_NAME.json, for base-to-new and few-shot evaluations.

    {"train": [["forest/1.jpg", 3, "forest"], ...], "val": [...], "test": [...]}

They exist for Caltech101, Oxford Pets, Stanford Cars, Flowers102, Food-101, SUN397, DTD, EuroSAT and UCF101.
"""

import json
from pathlib import Path
from typing import Any

from configs.errors import DataError
from configs.words import counted
from data_prep.class_names import ClassList, alike_names, composed, folded_name, load_class_list
from data_prep.readers.file_content import read_text
from data_prep.readers.listed_images import ListedImage, ListLine, choose, listed_source
from data_prep.sample import Source

SPLITS = ("train", "val", "test")


def read(path: Path, *, split_file: str, split: str, class_names: str | None = None, prompt: str = "paper") -> Source:
    """Images of one `split` (train, val, test) of `split_file`; `path` is the folder that its paths begin in.

    Names are the file's, `_` read as a space, or those of `class_names`, a shipped list or a file of as many names.
    """
    choose("split", split, SPLITS)
    file = Path(split_file).expanduser()
    rows = _rows(file)
    names = _names(file, rows)
    classes = ClassList(names) if class_names is None else load_class_list(class_names)
    if len(classes.names) != len(names):
        raise DataError(
            f"{class_names} has {len(classes.names)} classes and {file} has {len(names)}; they must be equal"
        )
    _refuse_another_order(file, names, str(class_names), classes.names)
    images = [ListedImage(line, row[0], row[1]) for part, line, row in rows if part == split]
    return listed_source(images, file, path, classes, prompt)


def _rows(file: Path) -> list[tuple[str, ListLine, list[Any]]]:
    """(split, where, [path, label, name]) of all images; `number` counts the images of a split from 1."""
    try:
        parts = json.loads(read_text(file))
    except json.JSONDecodeError as error:
        raise DataError(f"{file} is no valid JSON ({error}); is the download complete?") from error
    if not isinstance(parts, dict) or not all(isinstance(parts.get(split), list) for split in SPLITS):
        raise DataError(f"{file} is none of CoOp's splits: it is an object with the lists train, val and test")
    rows = []
    for split in SPLITS:
        for number, row in enumerate(parts[split], 1):
            line = ListLine(file, number, f"{split}: {json.dumps(row)}")
            if not isinstance(row, list) or [type(value) for value in row] != [str, int, str] or row[1] < 0:
                raise line.error('an image is a list of path, class index and class name, such as ["a/1.jpg", 0, "a"]')
            rows.append((split, line, row))
    return rows


def _names(file: Path, rows: list[tuple[str, ListLine, list[Any]]]) -> tuple[str, ...]:
    """The name of each class. Raises `DataError` for a class of two names, or a gap in the indexes."""
    names: dict[int, str] = {}
    for _, line, (_, label, name) in rows:
        if names.setdefault(label, name) != name:
            raise line.error(f"class {label} is called {names[label]!r} in another image")
    missing = next((index for index in range(len(names)) if index not in names), None)
    if missing is not None:
        raise DataError(
            f"{file} has {counted(len(names), 'class')} and none has the index {missing}; is the file complete?"
        )
    found = tuple(composed(names[index]).replace("_", " ").strip() for index in range(len(names)))
    empty = next((index for index, name in enumerate(found) if not name), None)
    if empty is not None:
        raise DataError(f"{file}: the name of class {empty} is empty; give the names with class_names")
    if alike := alike_names(found):
        raise DataError(
            f"{file}: the classes {', '.join(map(repr, alike[:4]))} differ in case, spaces, `_` or Unicode form only; "
            "are they one class? Give each class one spelling"
        )
    return found


def _refuse_another_order(file: Path, names: tuple[str, ...], class_names: str, listed: tuple[str, ...]) -> None:
    """Raise `DataError` if a name of the file is that of another class of the list, which would exchange classes."""
    places: dict[str, set[int]] = {}
    for index, name in enumerate(listed):
        places.setdefault(folded_name(name), set()).add(index)
    for index, name in enumerate(names):
        if (known := places.get(folded_name(name))) and index not in known:
            raise DataError(
                f"class {index} is {name!r} in {file}, and {listed[index]!r} in class_names {class_names}, where "
                f"{name!r} is class {min(known)}; leave class_names out, or give the names in the order of the file"
            )
