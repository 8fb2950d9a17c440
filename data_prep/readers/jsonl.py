"""Any file of records (JSON lines, a JSON list, CSV, parquet: `data_prep.readers.records_file`), its fields by options.

- classes:    `label_key: label`; the names are `class_names`, those in a parquet file's metadata, or the distinct
              labels in sorted order (see `data_prep.readers.label_values` for what counts as a label)
- questions:  `question_key: text, answer_key: label`; without `answer_key` there is no answer
- captions:   `question: Describe the image., answer_key: caption`

Lines of another `split` are left out; an id is the line's number in the file, so it does not depend on the split.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.errors import ConfigError, DataError
from data_prep.class_names import ClassList, load_class_list
from data_prep.lettered_options import find_options, unreadable_options
from data_prep.parquet_cell import ParquetBytes
from data_prep.prompts import classification_turns, image_question
from data_prep.readers.conversation_dialects import UNREAD_KEYS, is_nothing, shown
from data_prep.readers.image_values import ImageFormError, existing_spelling, image_value
from data_prep.readers.json_text import BadRecord, text_in
from data_prep.readers.label_values import (
    LabelIndex,
    StatedLabels,
    names_of_labels,
    refuse_counting_from_one,
    stated_classes,
)
from data_prep.readers.records_file import RecordsFile, read_records
from data_prep.records import LazyRecords, Record
from data_prep.sample import FILE, Drop, ImageOrigin, Sample, Source, Turn

LIKE_IMAGES = frozenset({*UNREAD_KEYS, "image", "images", "file_name", "filename", "file", "filepath", "image_name",
                         "image_url", "img_name", "jpg", "png", "path"})  # fmt: skip


LETTER = re.compile(r"\s*\(?[A-Ja-j]\)?[.:]?\s*")


@dataclass(frozen=True, slots=True)
class _Fields:
    """Which field is what: the options of `read`."""

    root: Path
    image: str
    label: str | None
    index: str | None
    question: str | None
    question_field: str | None
    answer: str | None


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

    A label is a class name, a key or a number of `class_names`. `index_key` names the field with the class index, which
    a list with a name twice (ImageNet's) needs. `path` may be a folder of parquet files, of which `split` chooses some.
    """
    if sum(option is not None for option in (label_key, question, question_key)) != 1:
        raise ConfigError("give exactly one of label_key (classes), question_key, question (one for all lines)")
    file = read_records(path, split)
    numbered = _numbered_rows(path, file.records, split)
    root = Path(image_root).expanduser() if image_root else (path if path.is_dir() else path.parent)
    fields = _Fields(root, image_key, label_key, index_key, question, question_key, answer_key)
    _check_keys(path, [row for _, row in numbered], fields)
    labels, notes = LabelIndex(ClassList(())), tuple[str, ...]()
    if label_key is not None:
        labels, notes = _classes(path, [row for _, row in numbered], label_key, class_names, file.labels.get(label_key))
        classification_turns(prompt, "")  # raises now for an unknown prompt
    elif answer_key is not None and question_key is not None:
        notes = _unread_options([row for _, row in numbered], question_key, answer_key)
    names = labels.classes.names

    def make(index: int) -> Record:
        line, row = numbered[index]
        number = f"{line:07d}"
        try:
            if isinstance(row, BadRecord):
                return Drop(number, row.reason)
            image = _image(row, fields)
            if label_key is None:
                return _conversation(number, row, fields, image, file)
        except (DataError, ImageFormError) as error:
            return Drop(number, str(error))
        except KeyError as error:
            return Drop(number, f"malformed line: it has no key {error}; its keys are {_keys([row])}")
        except (TypeError, ValueError) as error:
            return Drop(number, f"malformed line: {error}")
        try:
            label = labels.of(row.get(label_key), row.get(index_key) if index_key else None)
        except ValueError as error:
            return Drop(number, str(error))
        if image is None:
            return Drop(number, f"no image: {fields.image!r} is empty or missing; its keys are {_keys([row])}")
        turns = classification_turns(prompt, names[label])
        named = row.get(fields.image)
        meta = {FILE: named} if isinstance(image, Path) and isinstance(named, str) else {}
        return Sample(id=number, image=image, label=label, label_name=names[label], turns=turns, meta=meta)

    return Source(names, LazyRecords(make, len(numbered)), notes=notes)


def _numbered_rows(path: Path, records: Sequence[Any], split: str | None) -> list[tuple[int, Any]]:
    """(line, row) of the rows of `split`, unreadable ones included. Raises `DataError` if there are none."""
    numbered = list(enumerate(records))
    if split is not None and any(isinstance(row, dict) and "split" in row for _, row in numbered):
        numbered = [(n, row) for n, row in numbered if isinstance(row, BadRecord) or row.get("split") == split]
    elif split is not None and not path.is_dir():
        numbered = []
    if not numbered:
        raise DataError(f"{path} has no line of split {split!r}" if records and split else f"{path} has no record")
    return numbered


def _unread_options(rows: list[Any], question: str, answer: str) -> tuple[str, ...]:
    """A sentence about questions whose answer is a letter and whose options cannot be read, if most answers are."""
    texts = [row for row in rows if isinstance(row, dict) and isinstance(row.get(question), str)]
    lettered = [row for row in texts if LETTER.fullmatch(str(row.get(answer)))]
    unread = [row[question] for row in lettered if find_options(row[question]) is None]
    if not unread or 2 * len(lettered) < len(texts):
        return ()
    return (
        f"{len(unread):,} of {len(lettered):,} questions whose answer is a letter do not fit task multiple_choice; "
        f"the first: {unreadable_options(unread[0])}",
    )


def _classes(
    path: Path, rows: list[Any], key: str, listed: str | None, stated: tuple[str, ...] | None
) -> tuple[LabelIndex, tuple[str, ...]]:
    """The classes of the lines and sentences about them. `stated` are the names in the file's metadata."""
    if stated is not None:
        return StatedLabels(stated_classes(stated, load_class_list(listed) if listed else None, str(path))), ()
    values = [row.get(key) for row in rows if isinstance(row, dict)]
    if not listed:
        names, notes = names_of_labels(values, str(path))
        return LabelIndex(ClassList(names)), notes
    classes = load_class_list(listed)
    refuse_counting_from_one(values, classes, str(path))
    return LabelIndex(classes), ()


def _conversation(
    number: str, row: Mapping[str, Any], fields: _Fields, image: ImageOrigin | None, file: RecordsFile
) -> Sample:
    """A question and its answer, if there is one. Raises `KeyError` or `TypeError` for a field that is no text."""
    text = fields.question if fields.question is not None else text_in(row[str(fields.question_field)])
    turns: tuple[Turn, ...] = (Turn("human", image_question(text) if image is not None else text),)
    if fields.answer is not None:
        value, names = row[fields.answer], file.labels.get(fields.answer)
        value = names[value] if names and isinstance(value, int) and 0 <= value < len(names) else value
        turns = (*turns, Turn("gpt", text_in(value)))
    left_out = (fields.question_field, fields.image)
    meta = {key: value for key, value in row.items() if key not in left_out and not _has_bytes(value)}
    return Sample(id=number, image=image, turns=turns, meta=meta)


def _image(row: Mapping[str, Any], fields: _Fields) -> ImageOrigin | None:
    """Where the image of a line is; None if it has none. Raises `DataError` or `ImageFormError` for other values."""
    value = row.get(fields.image)
    if is_nothing(value):
        other = next((key for key in row if _like_image(key) and not is_nothing(row[key])), None)
        if fields.image not in row and other is not None and fields.label is None:
            raise DataError(f"image under another key: {other!r} is not read; set the option image_key")
        return None
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, list):
        raise DataError(f"several images: {len(value)}; a sample has at most one")
    if isinstance(value, int | float):
        raise DataError(f"image is no path: {fields.image!r} is {shown(value)}")
    found = image_value(value, any_form=True)
    if not isinstance(found, str):
        return found
    return existing_spelling(fields.root / found) or fields.root / found


def _check_keys(path: Path, rows: list[Any], fields: _Fields) -> None:
    """Raise `DataError` if no line has the field of the images (or labels), with the keys that there are."""
    records = [row for row in rows if isinstance(row, dict)]
    if len(records) + sum(isinstance(row, BadRecord) for row in rows) < len(rows):
        wrong = next(row for row in rows if not isinstance(row, dict | BadRecord))
        raise DataError(f"{path} does not hold a list of JSON objects: one of them is {shown(wrong)}")
    wanted = [("label_key", fields.label), ("index_key", fields.index), ("question_key", fields.question_field)]
    likely = [key for row in records[:100] for key in row if _like_image(key)]
    if fields.label is not None or fields.image != "image" or likely:
        wanted.insert(0, ("image_key", fields.image))
    for option, key in wanted:
        if records and key is not None and not any(key in row for row in records):
            raise DataError(f"no line of {path} has the key {key!r}; its keys are {_keys(records)}: set {option}")


def _like_image(key: str) -> bool:
    return key.lower() in LIKE_IMAGES


def _keys(rows: list[dict[str, Any]]) -> str:
    return ", ".join(dict.fromkeys(str(key) for row in rows[:100] for key in row)) or "none"


def _has_bytes(value: Any) -> bool:
    """Whether a value holds an image or other bytes, which a record cannot keep as text."""
    if isinstance(value, Mapping):
        return any(map(_has_bytes, value.values()))
    return any(map(_has_bytes, value)) if isinstance(value, list) else isinstance(value, bytes | ParquetBytes)
