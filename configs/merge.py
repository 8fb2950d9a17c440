"""Layers of settings merged into a typed config: unknown keys, wrong types and limits in one line each."""

import dataclasses
import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf, read_write
from omegaconf.errors import (
    ConfigKeyError,
    InterpolationValidationError,
    MissingMandatoryValue,
    OmegaConfBaseException,
)

from configs.api_providers import provider_layers
from configs.errors import ConfigError
from configs.layers import Layer, flatten, mapping_at
from configs.section import Section
from configs.value_types import REFERENCE, wrong_type
from configs.written_numbers import for_settings

C = TypeVar("C", bound=Section)


def config_of_layers(schema: type[C], path: Path, layers: Sequence[Layer]) -> tuple[C, dict[str, str]]:
    """The config of `layers`, later ones over earlier ones, and `{dotted key: origin}`; errors name the file `path`.

    Raises `ConfigError` for an unknown key, a wrong type or an impossible combination.
    """
    merged, origins = merge_layers(schema, layers)
    return _to_object(merged, path, schema, origins), origins


def merge_layers(schema: type[Section], layers: Sequence[Layer]) -> tuple[Any, dict[str, str]]:
    """Values of `schema` after all layers, the last one winning, and `{dotted key: origin}`.

    Raises `ConfigError` that names the layer for an unknown key or a wrong type.
    """
    origins = dict.fromkeys(_setting_names(schema), "default")
    merged = OmegaConf.structured(schema)
    providers = [layer for section in _api_sections(schema) for layer in provider_layers(layers, section)]
    for origin, read in [*providers, *layers]:
        values = _restore_off(for_settings(schema, read), schema)
        if wrong := wrong_type(schema, values):
            raise ConfigError(f"{origin}: {wrong}")
        try:
            _make_way(merged, values)
            merged = OmegaConf.unsafe_merge(merged, values)  # in place: copies take most of the time
        except (OmegaConfBaseException, TypeError) as error:
            raise ConfigError(f"{origin}: {_explain(_error_with_key(schema, values, error), schema)}") from error
        origins |= dict.fromkeys(flatten(values), origin)
    return merged, origins


def _make_way(merged: Any, values: Mapping[str, Any]) -> None:
    """Remove each option of a source from `merged` that is a mapping and that `values` has in another form."""
    for name, source in mapping_at(values, "data", "sources").items():
        if name not in merged.data.sources:
            continue
        options = merged.data.sources[name].options
        present = OmegaConf.to_container(options, resolve=False)
        for key, value in mapping_at(source, "options").items():
            if isinstance(mapping_at(present).get(key), dict) and not isinstance(value, Mapping):
                with read_write(options):
                    del options[key]


def _api_sections(schema: type[Section], inside: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The paths of all sections of requests to an API: ("api",), ("grading", "api")."""
    for spec in dataclasses.fields(schema):
        path = (*inside, spec.name)
        if spec.name == "api":
            yield path
        elif isinstance(spec.type, type) and issubclass(spec.type, Section):
            yield from _api_sections(spec.type, path)


def _restore_off(values: dict[str, Any], schema: Any) -> dict[str, Any]:
    """`values` with `off` where YAML has parsed it as false and `off` is one of the setting's choices."""
    specs = {spec.name: spec for spec in dataclasses.fields(schema)}
    settled = dict(values)
    for key, value in values.items():
        spec = specs.get(key)
        if spec and value is False and "off" in spec.metadata.get("choices", ()):
            settled[key] = "off"
        elif spec and isinstance(value, dict) and dataclasses.is_dataclass(spec.type):
            settled[key] = _restore_off(value, spec.type)
    return settled


def _error_with_key(schema: type[Section], values: Mapping[str, Any], error: Exception) -> Exception:
    """`error`, or one that names its key: OmegaConf does not report the key of a value of the wrong type."""
    if getattr(error, "full_key", None):
        return error
    for key, value in flatten(values).items():
        single = OmegaConf.create()
        OmegaConf.update(single, key, value)
        try:
            OmegaConf.merge(OmegaConf.structured(schema), single)
        except (OmegaConfBaseException, TypeError) as alone:
            found = getattr(alone, "full_key", None)
            return alone if found else ConfigError(f"{key}: {value!r} has the wrong type for this setting")
    return error


def _to_object(merged: Any, path: Path, schema: type[C], origins: Mapping[str, str]) -> C:
    _check_references(merged, path, schema, origins)
    try:
        config = OmegaConf.to_object(merged)
    except MissingMandatoryValue as error:
        raise ConfigError(f"{path}: {error.full_key or 'a setting'} has no value; set it in the file") from error
    except (OmegaConfBaseException, ConfigError) as error:
        cause = error if isinstance(error, ConfigError) else error.__cause__
        if not isinstance(cause, ConfigError):
            raise ConfigError(f"{path}: {_explain(error, schema)}") from error
        raise ConfigError(_with_origin(str(cause), _invalid_section(merged), path, origins)) from error
    assert isinstance(config, schema)
    return config


def _check_references(merged: Any, path: Path, schema: type[Section], origins: Mapping[str, str]) -> None:
    """Raise `ConfigError` for a value such as `${seed}` that refers to nothing, or to a value of another type."""
    written = OmegaConf.to_container(merged, resolve=False)
    assert isinstance(written, dict)
    for key, text in _references(flatten({str(name): value for name, value in written.items()})):
        where = origins.get(key, str(path))
        try:
            value = OmegaConf.select(merged, key)
            value = OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
        except InterpolationValidationError as error:
            raise ConfigError(f"{where}: {key} is {text!r}, whose value is of another type than {key}") from error
        except OmegaConfBaseException as error:
            raise ConfigError(
                f"{where}: {key} is {text!r}, which has no value; ${{…}} must name another setting, as "
                "${data.prompt} does, or a set environment variable, as ${oc.env:HOME} does"
            ) from error
        nested: Any = value
        for part in reversed(key.split(".")):
            nested = {part: nested}
        if wrong := wrong_type(schema, nested):
            raise ConfigError(f"{where}: {wrong} (it refers to {text})")


def _references(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(dotted key, text) of every value with a reference; of a list that holds one, the list's key and that entry."""
    for key, value in values.items():
        for text in value if isinstance(value, list | tuple) else [value]:
            if isinstance(text, str) and REFERENCE in text:
                yield key, text


def _invalid_section(node: Any, prefix: str = "") -> str:
    """Dotted path, with a dot at its end, of the innermost section that does not accept its own values.

    Sections check themselves without knowing their own path.
    """
    for key in node:
        child = None if OmegaConf.is_missing(node, key) else node[key]
        if isinstance(child, DictConfig):
            try:
                OmegaConf.to_object(child)
            except (OmegaConfBaseException, ConfigError):
                return _invalid_section(child, f"{prefix}{key}.")
    return prefix


def _with_origin(text: str, section: str, path: Path, origins: Mapping[str, str]) -> str:
    """The message `text` with the origin of its value and the section before its field's name.

    >>> _with_origin("epochs is 0; it must be at least 1", "train.", Path("a.yaml"), {"train.epochs": "b.yaml"})
    'b.yaml: train.epochs is 0; it must be at least 1'
    """
    key = f"{section}{text.split(' ')[0]}"
    if key in origins and origins[key] != "default":
        return f"{origins[key]}: {section}{text}"
    return f"{path}: {section}{text}" if key in origins else f"{path}: {text}"


def _explain(error: Exception, schema: type[Section]) -> str:
    """One line that says what is wrong with which key, and for an unknown key which ones would be right."""
    key = getattr(error, "full_key", None) or ""
    if isinstance(error, ConfigKeyError) and error.object_type is not None:
        parent, _, last = key.rpartition(".")
        valid = [spec.name for spec in dataclasses.fields(error.object_type)]
        near = difflib.get_close_matches(last, valid, n=3, cutoff=0.5)
        elsewhere = [name for name in _setting_names(schema) if last in name.split(".")]
        meant = list(dict.fromkeys((*elsewhere[:3], *near)))
        hint = f"did you mean {', '.join(meant)}? " if meant else ""
        return f"unknown key {key!r}; {hint}valid keys{f' of {parent}' if parent else ''}: {', '.join(valid)}"
    if isinstance(error, ConfigError):
        return str(error)
    return f"{key or 'a setting'} has a value of the wrong type; `--help` lists each setting with its meaning"


def _setting_names(schema: type[Section], prefix: str = "") -> list[str]:
    """Dotted names of all settings."""
    names = []
    for spec in dataclasses.fields(schema):
        if isinstance(spec.type, type) and issubclass(spec.type, Section):
            names += _setting_names(spec.type, f"{prefix}{spec.name}.")
        else:
            names.append(f"{prefix}{spec.name}")
    return names
