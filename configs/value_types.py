"""Do values have the types of their settings? Checked before they are merged, so that errors name key, value and type.

    wrong_type(RunConfig, {"train": {"epochs": "many"}})
    -> "train.epochs is 'many'; it must be a whole number"

A value that refers to another setting (`${data.prompt}`) is checked when it has been resolved.
"""

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any

from configs.section import Section

BOOLEANS = ("true", "false", "yes", "no", "on", "off", "y", "n", "0", "1")
NOTHING = "has no value"
REFERENCE = "${"


def wrong_type(schema: type[Section], values: Mapping[Any, Any], prefix: str = "") -> str | None:
    """What is wrong with the type of the first such value of `values`; None if nothing. Unknown keys are ignored."""
    hints = typing.get_type_hints(schema)
    for key, value in values.items():
        if key in hints and (found := _wrong(hints[key], value, f"{prefix}{key}")):
            return found
    return None


def _wrong(hint: Any, value: Any, key: str) -> str | None:
    """What is wrong with `value` of the setting `key`, which has the type `hint`."""
    kinds = alternatives(hint)
    if value is None and (type(None) in kinds or Any in kinds):
        return None
    kinds = tuple(kind for kind in kinds if kind is not type(None))
    if isinstance(value, str) and (REFERENCE in value or value == "???"):
        return None
    if value is None:
        return f"{key} {NOTHING}; it must be {' or '.join(map(_named, kinds))}"
    faults = [_fault(kind, value, key) for kind in kinds]
    return None if None in faults else faults[0]


def _fault(kind: Any, value: Any, key: str) -> str | None:
    """The same for one type."""
    inner = typing.get_args(kind)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type) and issubclass(kind, Section):
        return wrong_type(kind, value, f"{key}.") if isinstance(value, Mapping) else _text(key, value, kind)
    if typing.get_origin(kind) is dict:
        if not isinstance(value, Mapping):
            return _text(key, value, kind)
        if names := [name for name in value if inner[0] is str and not isinstance(name, str)]:
            return f"{key}: YAML reads the name {names[0]!r} as no text; put it in quotes"
        return next((found for name, one in value.items() if (found := _wrong(inner[1], one, f"{key}.{name}"))), None)
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, list | tuple):
            return _text(key, value, kind)
        if Ellipsis not in inner and len(value) != len(inner):
            return f"{key} has {len(value)} entries; it must be a list of {len(inner)}, each {_named(inner[0])}"
        return next((found for n, one in enumerate(value) if (found := _wrong(inner[0], one, f"{key}[{n}]"))), None)
    return None if _fits(kind, value) else _text(key, value, kind)


def _fits(kind: Any, value: Any) -> bool:
    """Whether a value without parts is, or can be read as, one of type `kind`."""
    if kind is bool:
        return isinstance(value, bool | int) or (isinstance(value, str) and value.lower() in BOOLEANS)
    if kind in (int, float):
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            return False
        try:
            kind(value if isinstance(value, str) or kind is float else str(value))
        except ValueError:
            return False
        return True
    if kind is str:
        return not isinstance(value, bool | bytes | Mapping | list | tuple)
    return True


def alternatives(hint: Any) -> tuple[Any, ...]:
    """The types of a union; the type itself elsewhere."""
    return typing.get_args(hint) if typing.get_origin(hint) in (types.UnionType, typing.Union) else (hint,)


def _text(key: str, value: Any, kind: Any) -> str:
    shown = str(value).lower() if isinstance(value, bool) else repr(value)
    shown = shown if len(shown) < 80 else f"{shown[:77]}..."
    quoted = f", in quotes: '{str(value).lower()}'" if kind is str and isinstance(value, bool) else ""
    return f"{key} is {shown}; it must be {_named(kind)}{quoted}"


def _named(kind: Any) -> str:
    """The type as a person says it."""
    simple = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
    if kind in simple:
        return simple[kind]
    inner = typing.get_args(kind)
    if typing.get_origin(kind) is tuple:
        return f"a list, each entry {_named(inner[0])}: [A, B]"
    if typing.get_origin(kind) is dict:
        return "a mapping: {NAME: VALUE}"
    if dataclasses.is_dataclass(kind):
        names = [spec.name for spec in dataclasses.fields(kind)]
        return f"a section of settings, such as {{{names[0]}: ...}}"
    return "another kind of value"
