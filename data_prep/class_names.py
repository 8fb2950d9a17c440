"""Lists of class names: data files, checked when they are read.

Two classes may share a name: ImageNet has "missile" and "sunglasses" twice. They are told apart by index, so
nothing here turns a name into an index; a key (such as a wnid) is unique and may.

Forms read: a JSON list of names; a JSON object {key: name}, or one of ours with "names", "keys" and "synonyms"; a
tab-separated table with a header and the columns index, wnid, name_in_paper, wordnet_synonyms; text, a name a line; the
folder of a shard set, whose manifest holds its classes.
"""

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from configs.errors import DataError
from configs.shard_dir import ShardDir

SHIPPED = Path(__file__).with_name("class_lists")


@dataclass(frozen=True)
class ClassList:
    """Names by index; `keys` and `synonyms` are as long as `names`, or empty if the list has none.

    `synonyms[i]` holds other names of class i (WordNet's lemmas), the paper's own name not necessarily among them.
    """

    names: tuple[str, ...]
    keys: tuple[str, ...] = ()
    synonyms: tuple[tuple[str, ...], ...] = field(default=())

    @cached_property
    def by_key(self) -> Mapping[str, int]:
        """Key to index."""
        return {key: index for index, key in enumerate(self.keys)}


def load_class_list(name: str) -> ClassList:
    """The shipped list `name` (`imagenet`, `flowers102`, ...) or the list in the file `name`.

    Raises `DataError` for a missing file, a form not described above, an empty name, or a repeated key.
    """
    shipped = SHIPPED / f"{name}.json"
    path = shipped if shipped.is_file() else Path(name).expanduser()
    path = ShardDir(path).manifest if path.is_dir() else path
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in SHIPPED.glob("*.json")))
        raise DataError(f"no class list {name!r}: it is neither a file nor a shipped list ({known})")
    try:
        classes = _parse(path)
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"{path} is not a class list: {error}; see data_prep/class_names.py for its forms") from error
    _check(path, classes)
    return classes


def _parse(path: Path) -> ClassList:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        return _from_json(json.loads(text))
    if path.suffix == ".tsv":
        rows = list(csv.DictReader(text.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE))
        if [int(row["index"]) for row in rows] != list(range(len(rows))):
            raise ValueError("the column index does not count 0, 1, 2, ...")
        return ClassList(
            tuple(row["name_in_paper"] for row in rows),
            tuple(row["wnid"] for row in rows),
            tuple(tuple(row["wordnet_synonyms"].split(", ")) for row in rows),
        )
    return ClassList(tuple(line.strip() for line in text.splitlines()))


def _from_json(values: Any) -> ClassList:
    if isinstance(values, list):
        return ClassList(tuple(values))
    if not isinstance(values, dict):
        raise ValueError(f"it holds a {type(values).__name__}, not a list or an object")
    if "names" in values and isinstance(values["names"], list):
        synonyms = tuple(tuple(others) for others in values.get("synonyms", ()))
        synonyms = synonyms if any(synonyms) else ()  # WordNet was asked, and knows none of the classes
        return ClassList(tuple(values["names"]), tuple(values.get("keys", ())), synonyms)
    if isinstance(values.get("class_names"), list):  # manifest.json of a shard set
        return ClassList(tuple(values["class_names"]))
    return ClassList(tuple(values.values()), tuple(values))


def _check(path: Path, classes: ClassList) -> None:
    if not classes.names:
        raise DataError(f"{path} has no class names")
    for index, name in enumerate(classes.names):
        if not isinstance(name, str) or not name.strip():
            raise DataError(f"{path}: the name of class {index} is {name!r}; it must be a text that is not empty")
    for what, values in (("keys", classes.keys), ("synonyms", classes.synonyms)):
        if values and len(values) != len(classes.names):
            raise DataError(f"{path} has {len(classes.names)} names but {len(values)} {what}")
    if len(set(classes.keys)) != len(classes.keys):
        twice = next(key for key in classes.keys if classes.keys.count(key) > 1)
        raise DataError(f"{path}: the key {twice!r} stands twice; keys tell classes apart")
