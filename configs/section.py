"""Settings: typed fields with documentation, limits, and whether they change the result.

A YAML file fills dataclasses of these (`configs.load`). Two runs whose result-changing fields agree compute the same
weights (up to the order of floating-point sums); world size, micro-batch, workers, paths and cadences are free to
differ, so a run may be resumed elsewhere.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from configs.errors import ConfigError

NAME_PATTERN = re.compile(r"[A-Za-z0-9._-]{1,64}")


def setting(
    default: Any = dataclasses.MISSING,
    *,
    doc: str,
    changes_result: bool | Callable[[Any], bool] = True,
    choices: tuple[Any, ...] = (),
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
) -> Any:
    """A documented config field. A callable `default` is a factory; `at_least`, `above`, `at_most` bound numbers.

    `changes_result` may be a function of the section, for a field that matters only with certain values of others.
    """
    limits = {"choices": choices, "at_least": at_least, "above": above, "at_most": at_most}
    metadata = {"doc": doc, "changes_result": changes_result, **limits}
    if default is dataclasses.MISSING:
        return field(metadata=metadata)
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class Section:
    """A group of settings; checks each against its declared choices and limits."""

    def __post_init__(self) -> None:
        """Raise `ConfigError` naming the field, its value and what is allowed."""
        for spec in dataclasses.fields(self):
            _check_limits(spec, getattr(self, spec.name))


def _check_limits(spec: "dataclasses.Field[Any]", value: Any) -> None:
    limits = spec.metadata
    if limits.get("choices") and value not in limits["choices"]:
        allowed = ", ".join(map(str, limits["choices"]))
        raise ConfigError(f"{spec.name} is {value!r}; choose one of: {allowed}")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return
    if not math.isfinite(value):
        raise ConfigError(f"{spec.name} is {value}; it must be a finite number")
    if limits.get("at_least") is not None and value < limits["at_least"]:
        raise ConfigError(f"{spec.name} is {value}; it must be at least {limits['at_least']}")
    if limits.get("above") is not None and value <= limits["above"]:
        raise ConfigError(f"{spec.name} is {value}; it must be above {limits['above']}")
    if limits.get("at_most") is not None and value > limits["at_most"]:
        raise ConfigError(f"{spec.name} is {value}; it must be at most {limits['at_most']}")


def limits_in_words(spec: "dataclasses.Field[Any]", quote: str = "") -> Iterator[str]:
    """What a setting allows, a sentence each, for a reader; `quote` is put around each of its choices.

    >>> list(limits_in_words(exif))
    ['One of ignore, apply.']
    """
    limits = spec.metadata
    if limits["choices"]:
        yield f"One of {', '.join(f'{quote}{choice}{quote}' for choice in limits['choices'])}."
    words = {"at_least": "At least", "above": "Above", "at_most": "At most"}
    yield from (f"{word} {limits[key]}." for key, word in words.items() if limits[key] is not None)


def section_in(spec: "dataclasses.Field[Any]") -> type[Section] | None:
    """The section that a setting is, or whose instances it maps names to or lists; None for any other setting."""
    last = next((kind for kind in reversed((spec.type, *getattr(spec.type, "__args__", ()))) if kind is not ...), None)
    return last if isinstance(last, type) and issubclass(last, Section) else None


def check_name(value: str, what: str) -> None:
    """Raise `ConfigError` for a name that cannot be used for a folder and a job."""
    if not NAME_PATTERN.fullmatch(value) or value.startswith((".", "-")):
        raise ConfigError(f"{what} is {value!r}; use 1 to 64 letters, digits, '.', '_' or '-', the first none of .-")


def result_fields(config: Section, prefix: str = "") -> dict[str, Any]:
    """The result-changing settings as `{dotted name: value}`: what must agree for a run to be resumed."""
    fields: dict[str, Any] = {}
    for spec in dataclasses.fields(config):
        value, name = getattr(config, spec.name), f"{prefix}{spec.name}"
        changes = spec.metadata.get("changes_result", True)
        if not (changes(config) if callable(changes) else changes):
            continue
        if isinstance(value, Section):
            fields |= result_fields(value, f"{name}.")
        elif isinstance(value, dict) and any(isinstance(item, Section) for item in value.values()):
            for key, item in value.items():
                fields |= result_fields(item, f"{name}.{key}.")
        else:
            fields[name] = value
    return fields


def field_defaults(config: Section, prefix: str = "") -> dict[str, Any]:
    """{dotted name: default} of all settings of `config` and its sections that have one.

    What a saved record without a setting meant: the setting is newer, and its default is what was done before it.
    """
    found: dict[str, Any] = {}
    for spec in dataclasses.fields(config):
        value, name = getattr(config, spec.name), f"{prefix}{spec.name}"
        if isinstance(value, Section):
            found |= field_defaults(value, f"{name}.")
        elif spec.default is not dataclasses.MISSING:
            found[name] = spec.default
        elif spec.default_factory is not dataclasses.MISSING:
            found[name] = spec.default_factory()
    return found
