"""JSON texts as people have them: a list, JSON lines, or several values one after the other; errors with their place.

A record with two different values for one key is a `BadRecord`: a JSON parser alone would keep the last one silently.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.errors import DataError

MAX_CHARACTERS = 60  # characters of a damaged line in a message
_SPACE = re.compile(r"[ \t\r\n]*")


@dataclass(frozen=True, slots=True)
class BadRecord:
    """A record that cannot be read without guessing."""

    reason: str


def json_values(path: Path, text: str) -> list[Any]:
    """The JSON values of a text, one after the other."""
    decoder = json.JSONDecoder(object_pairs_hook=_object)
    values: list[Any] = []
    position, length = _skipped(text, 0), len(text)
    try:
        while position < length:
            value, position = decoder.raw_decode(text, position)
            values.append(_marked(value))
            following = _skipped(text, position)
            if following < length and text[following] == "," and isinstance(value, dict):
                following = _skipped(text, following + 1)
            position = following
    except ValueError as error:
        raise DataError(_damage(path, text, error, values)) from error
    except RecursionError as error:
        raise DataError(f"{path} is not valid JSON: its brackets are nested too deep") from error
    return values


def _damage(path: Path, text: str, error: ValueError, values: list[Any]) -> str:
    """Where and why a text is not JSON."""
    position = getattr(error, "pos", 0)
    line = text.count("\n", 0, position) + 1
    begin = text.rfind("\n", 0, position) + 1
    shown = text[begin:].partition("\n")[0]
    column = position - begin
    shown = shown[max(0, column - MAX_CHARACTERS // 2) : column + MAX_CHARACTERS // 2]
    after = f", after {len(values)} good lines" if values else ""
    what = str(error).partition(": line")[0]
    hint = "is the download complete?"
    if position >= len(text.rstrip()) or "Unterminated" in what:
        hint = "the file ends too early: is the download complete?"
    elif re.match(r"[,\s]*[\]}]", text[position:]) and text[:position].rstrip().endswith(","):
        hint = "remove the comma before the bracket"
    elif re.search(r"[\[{,:]\s*$", text[:position]) and text[position : position + 1] in "'TFN":
        hint = "it is in Python's notation; write it with json.dump"
    elif text[begin:].lstrip().startswith(("#", "//")):
        hint = "JSON has no comments: remove that line"
    elif text.lstrip()[:1] not in "[{" and re.match(r"[\w -]+:(\s|$)", text.lstrip()):
        hint = "it looks like YAML; set path to the JSON file that it names"
    elif text.lstrip()[:1] not in "[{":
        hint = "a file of records is JSON, JSON lines, .csv, .tsv or parquet"
    return f"{path} is not valid JSON{after}: {what} in line {line}, column {column + 1} ({shown!r}); {hint}"


def _skipped(text: str, position: int) -> int:
    """The position of the next character that is no space."""
    match = _SPACE.match(text, position)
    return match.end() if match else position


class _TwoValues(dict[str, Any]):
    """An object with a key that has two different values."""

    key = ""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    for key, value in pairs:
        if found[key] != value:
            marked = _TwoValues(found)
            marked.key = key
            return marked
    return found


def _marked(value: Any) -> Any:
    """`value` with a `BadRecord` for each record that has a key with two values."""
    if isinstance(value, list):
        return [_marked_record(item) for item in value]
    return _marked_record(value)


def _marked_record(record: Any) -> Any:
    twice = next(_with_two_values(record), None)
    return record if twice is None else BadRecord(f"repeated key: {twice.key!r} has two values in one object")


def _with_two_values(value: Any) -> Iterator[_TwoValues]:
    if isinstance(value, _TwoValues):
        yield value
    if isinstance(value, dict):
        for item in value.values():
            if isinstance(item, dict | list):
                yield from _with_two_values(item)
    elif isinstance(value, list):
        for item in value:
            if isinstance(item, dict | list):
                yield from _with_two_values(item)


def json_value(text: str) -> Any:
    """The value of a JSON text. Raises `ValueError` if it is none, or if a key has two values."""
    value = _marked_record(json.loads(text, object_pairs_hook=_object))
    if isinstance(value, BadRecord):
        raise RepeatedKeyError(value.reason)
    return value


class RepeatedKeyError(ValueError):
    """An object with two values for one key."""


def text_in(value: object) -> str:
    """A text, or a number as text. Raises `TypeError` for others, which `str` would turn into nonsense."""
    if isinstance(value, bool) or not isinstance(value, str | int | float) or value != value:
        raise TypeError(f"{value!r} is not a text")
    return str(value)


def lines_of(text: str) -> list[str]:
    """The lines of JSON lines: `str.splitlines` also breaks at U+2028 and others, which occur within texts."""
    return text.removesuffix("\n").split("\n")
