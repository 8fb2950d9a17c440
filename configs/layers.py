"""The layers of a configuration: a file, the bases it inherits from, and `--set`, each with its origin and values."""

import copy
import difflib
import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import GrammarParseError, KeyValidationError, OmegaConfBaseException

from configs.credentials import refuse_secrets
from configs.errors import ConfigError
from configs.written_numbers import marked, plain

MAX_BYTES = 1_000_000
MAX_BASES = 10
SECRET = re.compile(r"\$\{\s*oc\.env:[^}]*(key|token|secret|password)", re.IGNORECASE)

Layer = tuple[str, dict[str, Any]]
"""Where values come from, and the values."""


def file_layers(path: Path) -> list[Layer]:
    """(file, its values) of the file and its bases, the most basic first. Raises `ConfigError` as `load_config`."""
    layers: list[Layer] = []
    current: Path | None = path
    while current is not None:
        if len(layers) == MAX_BASES:
            raise ConfigError(f"{path}: more than {MAX_BASES} bases in a row; does a file name itself as its base?")
        values = _read(current)
        base = values.pop("base", None)
        if base is not None and (not isinstance(base, str) or not (current.parent / base).is_file()):
            raise ConfigError(f"{current}: base is {base!r}; {_no_base(current, base)}")
        layers.insert(0, (str(current), values))
        current = current.parent / base if base is not None else None
    return layers


def _no_base(file: Path, base: Any) -> str:
    """Why `base` names no file, and what to write."""
    if not isinstance(base, str) or not base:
        return f"give one YAML file, by its path from {file.parent}"
    if (file.parent / base).is_dir():
        return f"{file.parent / base} is a folder; name a YAML file in it"
    return f"no config file {file.parent / base}{_near(file.parent / base)}"


def _near(path: Path) -> str:
    """A hint at files of similar names."""
    near = difflib.get_close_matches(path.name, [p.name for p in path.parent.glob("*.yaml")], n=3)
    return f"; did you mean {', '.join(near)}?" if near else ""


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file, interpolations unresolved. Raises `ConfigError` if it is none, or holds a secret."""
    return {key: plain(value) for key, value in _read(path).items()}


def _read(path: Path) -> dict[str, Any]:
    """The same with numbers that know how they are written."""
    if not path.is_file():
        folder = f"{path} is a folder; name a YAML file in it"
        raise ConfigError(folder if path.is_dir() else f"no config file {path}{_near(path)}")
    if path.stat().st_size > MAX_BYTES:
        raise ConfigError(f"{path} has {path.stat().st_size} bytes; a config has at most {MAX_BYTES}")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 (byte {error.start}); save it as UTF-8") from error
    if SECRET.search(text):
        raise ConfigError(
            f"{path} reads a secret from the environment; secrets never belong in a config, which is saved"
        )
    values = copy.deepcopy(_parsed(path, text))
    named = {str(key): value for key, value in values.items()}
    refuse_secrets(flatten(named), str(path))
    return named


@lru_cache(maxsize=64)
def _parsed(path: Path, text: str) -> dict[Any, Any]:
    """The mapping that `text`, the content of `path`, holds. Raises `ConfigError` for anything else.

    A program that loads many configs, such as a sweep, parses a file that they share once.
    """
    try:
        if "*" in text and any(
            isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.SafeLoader)
        ):
            # a few lines of them unfold to gigabytes
            raise ConfigError(f"{path} uses YAML aliases (*name); write the values out, or use `base:`")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is not None and not isinstance(node, yaml.MappingNode):
            kind = "list" if isinstance(node, yaml.SequenceNode) else "single value"
            raise ConfigError(f"{path} contains a {kind}; a config is a mapping of settings, one `key: value` a line")
        values = marked(OmegaConf.to_container(OmegaConf.create(text), resolve=False), node)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {yaml_problem(error)}") from error
    except GrammarParseError as error:
        raise ConfigError(f"{path}: a value has `${{` without a setting's name and `}}` behind it") from error
    except KeyValidationError as error:
        raise ConfigError(f"{path} has a key that is not text; write a setting's name before each colon") from error
    except OmegaConfBaseException as error:
        raise ConfigError(
            f"{path} holds a value that no setting has; use texts, numbers, true, false, null, lists and mappings"
        ) from error
    assert isinstance(values, dict)
    return values


def yaml_problem(error: yaml.YAMLError) -> str:
    """What is wrong and where, in one line."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        position = getattr(error, "position", None)
        return "a character that is not allowed" + ("" if position is None else f" (character {position + 1:,})")
    problem, mark = " ".join(str(error.problem).split()), error.problem_mark
    if problem.startswith("but found another document"):
        return f"line {mark.line + 1}: a second document begins there; keep one"
    tab = "; a line is indented by a tab: use spaces" if "'\\t'" in problem or "\t" in problem else ""
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}{tab}"


def override_layer(text: str) -> Layer:
    """The layer of one `--set`. Raises `ConfigError` for another form than key.subkey=value."""
    key, equals, _ = text.partition("=")
    refuse_secrets({key: text[len(key) + 1 :]}, "--set")  # before any message repeats the text
    if not equals or not key.strip():
        raise ConfigError(f"--set {text!r} is not of the form key.subkey=value")
    if not all(part.strip() for part in key.split(".")) or any(bracket in key for bracket in "[]"):
        raise ConfigError(f"--set {text!r}: {key!r} is no setting's name; write it as section.setting=value")
    value = text[len(key) + 1 :]
    try:
        values: Any = OmegaConf.to_container(OmegaConf.from_dotlist([f"{key}={_as_text(value)}"]))
        node = yaml.compose(_as_text(value), Loader=yaml.SafeLoader)
        for part in reversed(key.split(".")):
            node = _mapping(part, node)
        values = marked(values, node)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {text!r}: the value is not valid YAML ({yaml_problem(error)}); quote it") from error
    except Exception as error:  # the key can be malformed in many ways
        raise ConfigError(f"--set {text!r} is not of the form key.subkey=value") from error
    assert isinstance(values, dict)
    return f"--set {text}", {str(k): v for k, v in values.items()}


def _mapping(key: str, node: yaml.Node | None) -> yaml.Node:
    """The YAML node of `{key: node}`."""
    return yaml.MappingNode("tag:yaml.org,2002:map", [(yaml.ScalarNode("tag:yaml.org,2002:str", key), node)])


def _as_text(value: str) -> str:
    """A value of the command line, quoted where YAML would read a text as a mapping or a part of it as a comment.

    >>> _as_text("2024: Photos #1"), _as_text("{a: 1}"), _as_text("1e-3")
    ('"2024: Photos #1"', '{a: 1}', '1e-3')
    """
    if value.startswith(("{", "[", '"', "'")) or not re.search(r":\s|:$|(^|\s)#", value):
        return value
    return json.dumps(value, ensure_ascii=False)


def mapping_at(values: Any, *keys: str) -> Mapping[str, Any]:
    """The mapping at the path `keys` of nested mappings; an empty one if there is none."""
    for key in keys:
        values = values.get(key) if isinstance(values, Mapping) else None
    return values if isinstance(values, Mapping) else {}


def last_value(layers: Sequence[Layer], *keys: str) -> Any:
    """The value at the path `keys` in the last of `layers` that has one; None without."""
    *section, name = keys
    found = (mapping_at(values, *section).get(name) for _, values in reversed(layers))
    return next((value for value in found if value is not None), None)


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"a": {"b": 1}}` as `{"a.b": 1}`."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
