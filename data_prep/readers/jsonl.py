"""Any file of JSON lines (or a JSON list, also gzipped); options map its fields.

- classes:    `label_key: label`; the names are `class_names`, or the distinct labels in sorted order (see
              `data_prep.readers.label_values` for what counts as a label)
- questions:  `question_key: text, answer_key: label` (POPE, whose .json files hold lines, too); without `answer_key`
              there is no answer (TextVQA in LLaVA's form)
- captions:   `question: Describe the image., answer_key: caption`

Lines of another `split` are left out; an id is the line's number in the file, so it does not depend on the split.
"""

import gzip
import json
import zlib
from pathlib import Path
from typing import Any

from configs.errors import ConfigError, DataError
from data_prep.class_names import ClassList, load_class_list
from data_prep.prompts import classification_turns, image_question
from data_prep.readers.label_values import LabelIndex, names_of_labels, refuse_counting_from_one
from data_prep.records import LazyRecords, Record
from data_prep.sample import Drop, Sample, Source, Turn


def read(
    path: Path,
    *,
    image_root: str | None = None,
    image_key: str = "image",
    label_key: str | None = None,
    index_key: str | None = None,
    class_names: str | None = None,
    prompt: str = "paper",
    question: str | None = None,
    question_key: str | None = None,
    answer_key: str | None = None,
    split: str | None = None,
) -> Source:
    """One sample a line of `path`; images are relative to `image_root` (default: the file's folder).

    `index_key` names the field with the class index, which a list with a name twice (ImageNet's) needs.
    """
    if sum(option is not None for option in (label_key, question, question_key)) != 1:
        raise ConfigError("give exactly one of label_key (classes), question_key, question (one for all lines)")
    numbered = [row for row in enumerate(load_rows(path)) if split is None or row[1].get("split") == split]
    if not numbered:
        raise DataError(f"{path} has no line of split {split!r}")
    root = Path(image_root).expanduser() if image_root else path.parent
    classes, notes = ClassList(()), tuple[str, ...]()
    if label_key is not None:
        classes, notes = _classes(path, label_key, [row for _, row in numbered], class_names, index_key)
        classification_turns(prompt, "")  # raises now for an unknown prompt
    names, labels = classes.names, LabelIndex(classes)

    def conversation(row: dict[str, Any]) -> tuple[Turn, ...]:
        text = question if question is not None else text_in(row[str(question_key)])
        turns = (Turn("human", image_question(text) if row.get(image_key) else text),)
        return turns if answer_key is None else (*turns, Turn("gpt", text_in(row[answer_key])))

    def make(index: int) -> Record:
        line, row = numbered[index]
        number = f"{line:07d}"
        try:
            image = root / row[image_key] if row.get(image_key) else None
            if label_key is None:
                meta = {key: value for key, value in row.items() if key not in (question_key, image_key)}
                return Sample(id=number, image=image, turns=conversation(row), meta=meta)
        except (KeyError, TypeError, ValueError) as error:
            return Drop(number, f"malformed line: {type(error).__name__} {error}")
        try:
            label = labels.of(row.get(label_key), row.get(index_key) if index_key else None)
        except ValueError as error:
            return Drop(number, str(error))
        turns = classification_turns(prompt, names[label])
        return Sample(id=number, image=image, label=label, label_name=names[label], turns=turns)

    return Source(names, LazyRecords(make, len(numbered)), notes=notes)


def _classes(
    path: Path, key: str, rows: list[dict[str, Any]], listed: str | None, index_key: str | None
) -> tuple[ClassList, tuple[str, ...]]:
    """The classes of the lines and sentences about them. Raises `DataError` for keys that no line has."""
    for wanted in (key, *((index_key,) if index_key else ())):
        if not any(wanted in row for row in rows):
            keys = ", ".join(sorted({name for row in rows for name in row}))
            raise DataError(f"no line of {path} has the key {wanted!r}; its lines have: {keys or 'nothing'}")
    values = [row.get(key) for row in rows]
    if not listed:
        names, notes = names_of_labels(values, str(path))
        return ClassList(names), notes
    classes = load_class_list(listed)
    refuse_counting_from_one(values, classes, str(path))
    return classes, ()


def text_in(value: object) -> str:
    """A text, or a number as text. Raises `TypeError` for others, which `str` would turn into nonsense."""
    if isinstance(value, bool) or not isinstance(value, str | int | float) or value != value:
        raise TypeError(f"{value!r} is not a text")
    return str(value)


def load_rows(path: Path) -> list[dict[str, Any]]:
    """The objects of a .jsonl or .json file, `.gz` or not. Raises `DataError` as `load_values`, or for other values."""
    rows = load_values(path)
    if not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{path} does not hold a list of JSON objects")
    return rows


def load_values(path: Path) -> list[Any]:
    """The JSON list in a file, or its lines, `.gz` or not. Raises `DataError` that locates the error."""
    text = read_text(path)
    values: Any = []
    try:
        if Path(path.name.removesuffix(".gz")).suffix == ".json" and not _has_lines(text):
            values = json.loads(text)
        else:
            values.extend(json.loads(line) for line in lines_of(text) if line.strip())
    except ValueError as error:
        after = f", after {len(values)} good lines" if values else ""
        raise DataError(f"{path} is not valid JSON{after}: {error}; is the download complete?") from error
    if isinstance(values, dict):
        inner = next((key for key, value in values.items() if isinstance(value, list)), None)
        list_in = f"; its list is the value of {inner!r}: write that list to a file of its own" if inner else ""
        raise DataError(f"{path} holds one object, not a list of records{list_in}")
    if not isinstance(values, list):
        raise DataError(f"{path} holds a {type(values).__name__}, not a list of records")
    rows: list[Any] = values
    return rows


def _has_lines(text: str) -> bool:
    """Whether a .json file holds JSON lines, as POPE's do: an object ends where its line ends, and another follows."""
    first, _, rest = text.partition("\n")
    return first.startswith("{") and first.rstrip().endswith("}") and rest.startswith("{")


def read_text(path: Path) -> str:
    """All of a UTF-8 file, `.gz` or not. Raises `DataError` if it is not there, cut short, or in another encoding."""
    if not path.is_file():
        raise DataError(f"no file {path}")
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8-sig") as file:
            text: str = file.read()
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8: {error}; convert it (iconv -t utf-8)") from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path} is damaged or no gzip file: {error}; is the download complete?") from error
    return text


def lines_of(text: str) -> list[str]:
    """The lines of JSON lines: `str.splitlines` also breaks at U+2028 and others, which occur within texts."""
    return text.removesuffix("\n").split("\n")
