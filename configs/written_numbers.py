"""Numbers as they are written: YAML reads `2023_05`, `007` and `48:00:00` as numbers; a text setting means the text.

marked(parsed_by_yaml, "path: 2023_05")     -> {"path": 202305}, a number that knows its text
for_settings(RunConfig, values)             -> the text where the setting is one, else the plain number
"""

import dataclasses
import typing
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from configs.section import Section
from configs.value_types import alternatives


class WrittenInt(int):
    """A whole number whose text in the file differs from its digits."""

    written: str

    def __str__(self) -> str:
        """As it is written."""
        return self.written


class WrittenFloat(float):
    """The same for other numbers."""

    written: str

    def __str__(self) -> str:
        """As it is written."""
        return self.written


def marked(values: Any, node: yaml.Node | None) -> Any:
    """`values`, which were parsed from the text of `node`, with numbers that know how they are written."""
    if isinstance(node, yaml.MappingNode) and isinstance(values, dict) and len(values) == len(node.value):
        return {key: marked(value, one) for (key, value), (_, one) in zip(values.items(), node.value, strict=True)}
    if isinstance(node, yaml.SequenceNode) and isinstance(values, list) and len(values) == len(node.value):
        return [marked(value, one) for value, one in zip(values, node.value, strict=True)]
    number = isinstance(values, int | float) and not isinstance(values, bool)
    if not number or not isinstance(node, yaml.ScalarNode) or str(values) == node.value:
        return values
    found = WrittenInt(values) if isinstance(values, int) else WrittenFloat(values)
    found.written = node.value
    return found


def plain(values: Any) -> Any:
    """`values` with plain numbers."""
    if isinstance(values, Mapping):
        return {key: plain(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [plain(value) for value in values]
    if isinstance(values, WrittenInt):
        return int(values)
    return float(values) if isinstance(values, WrittenFloat) else values


def for_settings(schema: type[Section], values: Mapping[str, Any]) -> dict[str, Any]:
    """`values` of `schema` with the text of each number whose setting is a text, and plain numbers elsewhere."""
    hints = typing.get_type_hints(schema)
    return {key: _for_type(hints.get(key, Any), value) for key, value in values.items()}


def for_layers(schema: type[Section], layers: Sequence[tuple[str, dict[str, Any]]]) -> list[tuple[str, dict[str, Any]]]:
    """`for_settings` of each layer."""
    return [(origin, for_settings(schema, values)) for origin, values in layers]


def _for_type(hint: Any, value: Any) -> Any:
    """The same for the value of a setting of type `hint`."""
    kinds = alternatives(hint)
    if isinstance(value, WrittenInt | WrittenFloat):
        return value.written if str in kinds and not {int, float} & set(kinds) else plain(value)
    for kind in kinds:
        inner = typing.get_args(kind)
        if isinstance(value, dict) and dataclasses.is_dataclass(kind):
            return for_settings(typing.cast(type[Section], kind), value)
        if isinstance(value, dict) and typing.get_origin(kind) is dict:
            return {key: _for_type(inner[1], one) for key, one in value.items()}
        if isinstance(value, list) and typing.get_origin(kind) is tuple:
            return [_for_type(inner[0], one) for one in value]
    return plain(value)
