"""Lists of class names: data files, checked when they are read.

Two classes may share a name: ImageNet has "missile" and "sunglasses" twice. Classes are identified by index, so
nothing here maps a name to an index; a key (such as a wnid) is unique and can be mapped.

Forms read: a JSON list of names; a JSON object {key: name}, or one of ours with "names", "keys" and "synonyms"; a
tab-separated table with a header and the columns index, wnid, name_in_paper, wordnet_synonyms; text, a name a line; the
folder of a shard set, whose manifest holds its classes. Also as ImageNet's lists circulate:

    n01440764 tench, Tinca tinca            lines: the first name counts, all are synonyms, the WordNet id is the key
    {0: 'tench, Tinca tinca', ...}          a Python dict
    {"0": ["n01440764", "tench"], ...}      Keras' JSON; as in id2label, {"0": "tench"}, numbers as keys give the order
    {"tench": 0, "goldfish": 1}             label2id; a model's config.json with id2label
    [{"id": 1, "name": "person"}, ...]      COCO's categories, the id is the key; also within {"categories": ...}
    0 tench  |  0: tench  |  0,tench        lines with numbers from 0, which give the order

Names are compared and stored in Unicode NFC; a byte-order mark is skipped.
"""

import ast
import csv
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from configs.errors import DataError
from configs.shard_dir import ShardDir

NUMBERED = re.compile(r"(\d+)(?:\s*[,:;.)\t]\s*|\s+)(\S.*)")
INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u2060\ufeff]")
"""Characters that are not seen: zero-width spaces and joiners, soft hyphens, byte-order marks."""
WORDNET_ID = re.compile(r"n\d{8}")
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
    if path.is_dir() and not ShardDir(path).manifest.is_file():
        inside = ShardDir(path).sets_inside()
        advice = f"give {' or '.join(map(str, inside[:5]))}" if inside else "give a file, or the folder of a shard set"
        raise DataError(f"no class list {name!r}: this folder is no shard set; {advice}")
    path = ShardDir(path).manifest if path.is_dir() else path
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in SHIPPED.glob("*.json")))
        raise DataError(f"no class list {name!r}: it is neither a file nor a shipped list ({known})")
    state = path.stat()
    return _load(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=16)
def _load(path: Path, _changed: int, _size: int) -> ClassList:
    """The list in `path`; parsed once, as reports ask for it with every item."""
    try:
        classes = _parse(path)
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not a class list in UTF-8 ({error.reason}); save it as a text in UTF-8") from error
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"{path} is not a class list: {error}; see data_prep/class_names.py for its forms") from error
    _check(path, classes)
    return classes


def _parse(path: Path) -> ClassList:
    if path.suffix in (".csv", ".yaml", ".yml"):
        raise ValueError(f"a {path.suffix} file is not read; write one name a line in a .txt file, or a JSON list")
    text = unicodedata.normalize("NFC", path.read_text(encoding="utf-8-sig"))
    if path.suffix == ".json":
        return _from_json(composed(json.loads(text, object_pairs_hook=unique_object)))
    if text.lstrip().startswith(("{", "[")):
        return _from_python_text(text)
    if path.suffix == ".tsv":
        rows = list(csv.DictReader(text.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE))
        if [int(row["index"]) for row in rows] != list(range(len(rows))):
            raise ValueError("the column index does not count 0, 1, 2, ...")
        return ClassList(
            tuple(row["name_in_paper"] for row in rows),
            tuple(row["wnid"] for row in rows),
            tuple(tuple(row["wordnet_synonyms"].split(", ")) for row in rows),
        )
    return _from_lines(_without_punctuation([line.strip() for line in text.rstrip().splitlines()]))


def _without_punctuation(lines: list[str]) -> list[str]:
    """The lines without the comma at the end and the quotes around that all of them have, as in copied lists."""
    if lines[:-1] and all(line.endswith(",") for line in lines[:-1]):
        lines = [line.removesuffix(",").rstrip() for line in lines]
    quoted = all(len(line) > 2 and line[0] == line[-1] and line[0] in "\"'" for line in lines)
    return [line[1:-1].strip() for line in lines] if quoted else lines


def _from_lines(lines: list[str]) -> ClassList:
    """A name a line, or a WordNet id and names a line."""
    ids = [WORDNET_ID.match(line) for line in lines]
    if not lines or not any(ids):
        return ClassList(_without_numbers(lines))
    bare = [line for line in lines if WORDNET_ID.fullmatch(line)]
    if bare:
        raise ValueError(
            f"it holds WordNet ids without names ({', '.join(bare[:3])}); names are needed: use class_names: imagenet,"
            ' or lines such as "n01440764 tench, Tinca tinca"'
        )
    if not all(ids):
        wrong = next(line for line, match in zip(lines, ids, strict=True) if not match)
        raise ValueError(f"some lines begin with a WordNet id, and {wrong!r} does not: give all an id, or none")
    keys, texts = zip(*((line[:9], line[9:].strip(" \t,:")) for line in lines), strict=True)
    return _with_synonyms(texts, keys)


def _without_numbers(lines: list[str]) -> tuple[str, ...]:
    """The names of lines that all begin with their number from 0; other lines as they are.

    Raises `ValueError` for numbers from 1.
    """
    numbered = [NUMBERED.fullmatch(line) for line in lines]
    names = {int(match[1]): match[2] for match in numbered if match}
    if sorted(names) == list(range(len(lines))):
        return tuple(names[number] for number in range(len(lines)))
    if len(lines) > 1 and sorted(names) == list(range(1, len(lines) + 1)):
        raise ValueError(
            f"its lines begin with the numbers 1 to {len(lines)}; write the names alone, or number them from 0 (names "
            "that begin with a number: a JSON list)"
        )
    return tuple(lines)


def _from_python_text(text: str) -> ClassList:
    """A Python dict or list as text, {0: 'tench, Tinca tinca', 1: ...}, as ImageNet's labels circulate."""
    try:
        values = ast.literal_eval(text)
    except SyntaxError as error:
        raise ValueError(
            f"it begins with a bracket and is no Python dict ({error.msg}, line {error.lineno})"
        ) from error
    if isinstance(values, list):
        return _from_json(values)
    ordered = _by_number({str(key): value for key, value in values.items()})
    if ordered is None or not all(isinstance(value, str) for value in ordered):
        raise ValueError("a dict of class names has the keys 0, 1, 2, ... and a text as each value")
    return _with_synonyms(tuple(ordered), ())


def _with_synonyms(texts: tuple[str, ...], keys: tuple[str, ...]) -> ClassList:
    """Texts such as "tench, Tinca tinca": the first name is the class name, all are its synonyms."""
    synonyms = tuple(tuple(name.strip() for name in text.split(",") if name.strip()) for text in texts)
    return ClassList(tuple(names[0] if names else "" for names in synonyms), keys, synonyms)


def _by_number(values: dict[str, Any]) -> list[Any] | None:
    """The values by the numbers that are their keys; None where a key is no number. Raises for a gap."""
    if not all(re.fullmatch(r"\d+", key) for key in values):
        return None
    numbered = {int(key): value for key, value in values.items()}
    if sorted(numbered) != list(range(len(values))):
        missing = next(number for number in range(len(values)) if number not in numbered)
        raise ValueError(f"its keys are numbers and {missing} is missing: number the classes 0 to {len(values) - 1}")
    return [numbered[number] for number in range(len(values))]


def unique_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of a JSON file, for `json.loads`. Raises `ValueError` for a key that occurs twice: JSON keeps one."""
    twice = next((key for key, times in Counter(composed(key) for key, _ in pairs).items() if times > 1), None)
    if twice is not None:
        raise ValueError(f"{twice!r} occurs twice")
    return dict(pairs)


def composed(value: Any) -> Any:
    """A value of a JSON file with all texts in Unicode NFC, also those that the file writes with escapes.

    >>> composed({"cafe\u0301": ["e\u0301"]}) == {"caf\u00e9": ["\u00e9"]}
    True
    """
    if isinstance(value, dict):
        return {composed(key): composed(part) for key, part in value.items()}
    if isinstance(value, list):
        return [composed(part) for part in value]
    return unicodedata.normalize("NFC", value) if isinstance(value, str) else value


def _from_json(values: Any) -> ClassList:
    if isinstance(values, dict):
        values = next((values[key] for key in ("id2label", "categories") if key in values), values)
    if isinstance(values, list) and values and all(isinstance(value, dict) and "name" in value for value in values):
        keys = tuple(str(value["id"]) for value in values if "id" in value)
        return ClassList(tuple(value["name"] for value in values), keys)
    if isinstance(values, list):
        return ClassList(tuple(values))
    if isinstance(values, dict) and values and all(type(value) is int for value in values.values()):
        return _from_label2id(values)
    if not isinstance(values, dict):
        raise ValueError(f"it holds a {type(values).__name__}, not a list or an object")
    if "names" in values and isinstance(values["names"], list):
        synonyms = tuple(tuple(others) for others in values.get("synonyms", ()))
        synonyms = synonyms if any(synonyms) else ()  # WordNet has none of the classes
        return ClassList(tuple(values["names"]), tuple(values.get("keys", ())), synonyms)
    for key in ("class_names", "classes", "labels"):  # the first is that of a shard set's manifest
        if isinstance(values.get(key), list):
            return _from_json(values[key])
    ordered = _by_number(values)
    if ordered is None:
        return ClassList(tuple(values.values()), tuple(values))
    if ordered and all(_is_keras_entry(value) for value in ordered):
        return ClassList(tuple(name.replace("_", " ") for _, name in ordered), tuple(key for key, _ in ordered))
    return ClassList(tuple(ordered), tuple(map(str, range(len(ordered)))))


def _from_label2id(numbers: Mapping[str, int]) -> ClassList:
    """The names of {"tench": 0, "goldfish": 1} in the order of their numbers."""
    twice = next((number for number, times in Counter(numbers.values()).items() if times > 1), None)
    if twice is not None:
        raise ValueError(f"two names have the number {twice}")
    return ClassList(tuple(_by_number({str(number): name for name, number in numbers.items()}) or ()))


def _is_keras_entry(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and bool(WORDNET_ID.fullmatch(str(value[0])))


def first_indices(names: Iterable[str]) -> dict[str, int]:
    """Each name to the index of the first class called so, in the order of the list.

    >>> first_indices(["crane", "cat", "crane"])
    {'crane': 0, 'cat': 1}
    """
    found: dict[str, int] = {}
    for index, name in enumerate(names):
        found.setdefault(name, index)
    return found


def alike_names(names: Iterable[str]) -> list[str]:
    """Different names that are equal but for case, spaces, `_` and Unicode form: most likely one class. Sorted.

    >>> alike_names(["Cat", "dog", "cat "])
    ['Cat', 'cat ']
    """
    spellings: dict[str, set[str]] = {}
    for name in names:
        spellings.setdefault(folded_name(name), set()).add(name)
    return sorted(name for group in spellings.values() if len(group) > 1 for name in group)


def folded_name(name: str) -> str:
    """The name without case, Unicode form, `_`, surplus spaces, invisible characters: equal for spellings of one name.

    >>> folded_name(" Guinea_Pig")
    'guinea pig'
    """
    visible = INVISIBLE.sub("", unicodedata.normalize("NFC", name))
    return " ".join(visible.casefold().replace("_", " ").split())


def _check(path: Path, classes: ClassList) -> None:
    if not classes.names:
        raise DataError(f"{path} has no class names")
    for index, name in enumerate(classes.names):
        if not isinstance(name, str) or not name.strip():
            raise DataError(f"{path}: the name of class {index} is {name!r}; it must be a text that is not empty")
    if alike := alike_names(classes.names):
        raise DataError(
            f"{path}: the names {', '.join(map(repr, alike[:4]))} differ in case, spaces, `_` or Unicode form only;"
            " are they one class? Give each class one spelling"
        )
    for what, values in (("keys", classes.keys), ("synonyms", classes.synonyms)):
        if values and len(values) != len(classes.names):
            raise DataError(f"{path} has {len(classes.names)} names but {len(values)} {what}")
    if len(set(classes.keys)) != len(classes.keys):
        twice = next(key for key, times in Counter(classes.keys).items() if times > 1)
        raise DataError(f"{path}: the key {twice!r} occurs twice; keys identify classes")
