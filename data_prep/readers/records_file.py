"""Files of records: their content, not their name, decides how they are read.

- JSON: a list, JSON lines, several objects or lists one after the other (with or without a comma between them)
- tables with a header line: .csv and .tsv (separated by comma, tab or semicolon); every value is a text
- parquet (`data_prep.readers.parquet_file`), a file or a folder of them

A record that holds two values for one key, and a line of a table with too many or too few fields, is a `BadRecord`: a
reader drops it with the reason.
"""

import csv
import json
import re
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from configs.errors import DataError
from data_prep.readers.conversation_dialects import TURN_KEYS
from data_prep.readers.file_content import check_file, is_parquet, read_text
from data_prep.readers.json_text import MAX_CHARACTERS, BadRecord, json_values
from data_prep.readers.parquet_file import parquet_files, read_parquet

TABLES = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
_MEDIA = re.compile(r"\.(?:jpe?g|png|webp|gif|bmp|tiff?)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class RecordsFile:
    """The records in a file, in order. `labels` are the class names that the file itself states, by key."""

    records: list[Any]
    labels: dict[str, tuple[str, ...]]


def read_records(path: Path, split: str | None = None) -> RecordsFile:
    """The records of `path`, which may be a folder of parquet files, of `split` if there are several.

    Raises `DataError` that says what the file is where it holds no list of records, and where it is damaged.
    """
    if path.is_dir() and (files := parquet_files(path, split)):
        return RecordsFile(*read_parquet(files))
    check_file(path)
    if is_parquet(path):
        return RecordsFile(*read_parquet([path]))
    return RecordsFile(load_values(path), {})


def load_rows(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON file or table. Raises `DataError` as `load_values`, and for other values than objects."""
    return check_objects(path, load_values(path))


def check_objects(path: Path, values: list[Any]) -> list[dict[str, Any]]:
    """`values`, if all are objects. Raises `DataError` that names the first that is none."""
    for number, value in enumerate(values):
        if isinstance(value, BadRecord):
            raise DataError(f"{path}, record {number}: {value.reason}")
        if not isinstance(value, dict):
            raise DataError(
                f"{path} does not hold a list of JSON objects: record {number} is {json.dumps(value)[:MAX_CHARACTERS]}"
            )
    return values


def load_values(path: Path) -> list[Any]:
    """The records of a JSON file or table, packed with gzip or not. Raises `DataError` that locates the error."""
    text = read_text(path)
    suffix = Path(path.name.removesuffix(".gz")).suffix.lower()
    if suffix in TABLES:
        return _table(path, text, TABLES[suffix])
    values = json_values(path, text)
    if all(isinstance(value, list) for value in values):  # one list, or several files one after the other
        values = [record for value in values for record in value]
        if values and all(isinstance(value, list) for value in values):
            raise DataError(f"{path} holds a list of {len(values)} lists; write their objects as one list")
    elif len(values) == 1:
        _refuse_single(path, values[0])
    return values


def _refuse_single(path: Path, value: Any) -> None:
    """Raise `DataError` for one value that is neither a list of records nor the only line of JSON lines."""
    if not isinstance(value, dict | BadRecord):
        raise DataError(f"{path} holds a {type(value).__name__}, not a list of records")
    if ".jsonl" in path.suffixes or isinstance(value, BadRecord):
        return
    inner = next((key for key, part in value.items() if _is_records(part)), None)
    hint = "put [ and ] around it if it is a record"
    if inner is not None and inner not in TURN_KEYS:
        hint = f"its list is the value of {inner!r}: write that list to a separate file"
    elif _is_columns(value):
        hint = "it holds columns: write its rows as a list of objects (pandas: to_json(orient='records'))"
    elif value and all(isinstance(part, dict) for part in value.values()):
        hint = f"it has {len(value)} objects by their ids ({', '.join(list(value)[:3])}): write its values as a list"
    raise DataError(f"{path} holds one object, not a list of records; {hint}")


def _is_columns(value: dict[str, Any]) -> bool:
    """Whether an object holds a table by columns: lists of one length, or objects with the same row numbers."""
    if {"columns", "data"} <= value.keys():
        return True
    if len(value) > 1 and all(
        isinstance(part, dict) and part and all(map(str.isdigit, part)) for part in value.values()
    ):
        return len({tuple(part) for part in value.values()}) == 1
    lists = [part for part in value.values() if isinstance(part, list) and not (part and isinstance(part[0], dict))]
    return len(lists) == len(value) > 1 and len({len(part) for part in lists}) == 1


def _is_records(value: Any) -> bool:
    return isinstance(value, list) and (not value or isinstance(value[0], dict))


def _table(path: Path, text: str, delimiter: str) -> list[Any]:
    """The lines of a table as objects of texts. An empty field is left out."""
    header_line = text.partition("\n")[0]
    if text.lstrip()[:1] in ("[", "{") and not header_line.count(delimiter):
        raise DataError(f"{path} holds JSON, not a table; name it .json or .jsonl")
    if not header_line.count(delimiter):
        delimiter = max(",\t;", key=header_line.count)
    csv.field_size_limit(1 << 30)
    try:
        lines = list(csv.reader(StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise DataError(f"{path} is no valid table: {error}; is a quote not closed?") from error
    header = [name.strip() for name in lines[0]]
    if len(header) < 2:
        raise DataError(f"{path} has one column, {header[0]!r}; columns are separated by comma, tab or semicolon")
    if any(_MEDIA.search(name) for name in header):
        raise DataError(
            f"{path} has no header: its first line is {header_line.strip()[:MAX_CHARACTERS]!r}; name the columns there"
        )
    twice = next((name for name in header if header.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{path} has the column {twice!r} twice; give every column a different name")
    records: list[Any] = []
    for number, line in enumerate(lines[1:], start=2):
        if not line:
            continue
        if len(line) != len(header):
            records.append(BadRecord(f"{len(line)} fields in line {number}: the header has {len(header)}"))
            continue
        records.append({name: value for name, value in zip(header, line, strict=True) if value != ""})
    return records
