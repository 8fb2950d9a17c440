"""The layers of a configuration: a file, the bases it refines, and `--set`, each with its origin and values."""

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from configs.credentials import refuse_secrets
from configs.errors import ConfigError

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
        values = read_yaml(current)
        base = values.pop("base", None)
        layers.insert(0, (str(current), values))
        current = current.parent / base if base is not None else None
    return layers


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file, interpolations unresolved. Raises `ConfigError` if it is none, or holds a secret."""
    if not path.is_file():
        near = difflib.get_close_matches(path.name, [p.name for p in path.parent.glob("*.yaml")], n=3)
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        raise ConfigError(f"no config file {path}{hint}")
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
    try:
        has_aliases = any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.SafeLoader))
        values = None if has_aliases else OmegaConf.to_container(OmegaConf.create(text), resolve=False)
    except Exception as error:  # yaml and omegaconf raise many types: each becomes one line
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if has_aliases:  # a few lines of them unfold to gigabytes
        raise ConfigError(f"{path} uses YAML aliases (*name); write the values out, or use `base:`")
    if not isinstance(values, dict):
        raise ConfigError(f"{path} contains a {type(values).__name__}; a config is a mapping of settings")
    named = {str(key): value for key, value in values.items()}
    refuse_secrets(flatten(named), str(path))
    return named


def override_layer(text: str) -> Layer:
    """The layer of one `--set`. Raises `ConfigError` for another form than key.subkey=value."""
    key, equals, _ = text.partition("=")
    refuse_secrets({key: text[len(key) + 1 :]}, "--set")  # before any message repeats the text
    if not equals or not key.strip():
        raise ConfigError(f"--set {text!r} is not of the form key.subkey=value")
    try:
        values = OmegaConf.to_container(OmegaConf.from_dotlist([text]))
    except Exception as error:  # the value is YAML and can be malformed in many ways
        raise ConfigError(f"--set {text!r}: {' '.join(str(error).split())}") from error
    assert isinstance(values, dict)
    return f"--set {text}", {str(k): v for k, v in values.items()}


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"a": {"b": 1}}` as `{"a.b": 1}`."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
