"""Which settings of stored answers or grades differ from those that are wanted, for an error."""

from collections.abc import Collection, Mapping
from typing import Any

DIGEST = 64  # hexadecimal digits of a sha256
SHOWN = 12


def changed_settings(present: Mapping[str, Any], wanted: Mapping[str, Any], ignored: Collection[str] = ()) -> list[str]:
    """A phrase for each setting with another value, sorted by name; of a digest its first digits.

    >>> changed_settings({"match": "word", "limit": 5}, {"match": "exact", "limit": 5})
    ["match was 'word' and is now 'exact'"]
    """
    return [
        f"{key} was {short(present.get(key))} and is now {short(wanted.get(key))}"
        for key in sorted({*present, *wanted})
        if present.get(key) != wanted.get(key) and key not in ignored
    ]


def short(value: object) -> str:
    """The value as written in Python; of a digest its first digits."""
    return f"{value[:SHOWN]}..." if isinstance(value, str) and len(value) == DIGEST else repr(value)
