"""YAML to typed config: base files, overrides, and where every value came from.

    config, origins = load_config(RunConfig, Path("configs/demo.yaml"), ["train.epochs=2"])

A file may name a `base:` (a path relative to itself) that it inherits from, and a run's file a `recipe:`
(`configs.recipe`); `--set a.b=c` overrides all of them. An evaluation also takes what the training of its model decides
(`configs.trained`). Unknown keys, wrong types and impossible combinations raise `ConfigError` with one line that says
what to change.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from omegaconf import OmegaConf

from configs.evaluation import EvalConfig
from configs.kinds import check_kind
from configs.layers import file_layers, flatten, override_layer
from configs.merge import config_of_layers
from configs.recipe import with_recipe
from configs.section import Section
from configs.trained import merge_evaluation
from configs.written_numbers import for_layers

C = TypeVar("C", bound=Section)


def load_config(schema: type[C], path: Path, overrides: Sequence[str] = ()) -> tuple[C, dict[str, str]]:
    """Read `path` and its bases, apply `overrides`, and return the config and `{dotted key: origin}`.

    Raises `ConfigError` for a missing or malformed file, an unknown key, a wrong type or an impossible combination, and
    for a damaged record of the training of an evaluation's model.
    """
    files = file_layers(path)
    check_kind(schema, path, files)
    layers = for_layers(schema, with_recipe(schema, files, [override_layer(text) for text in overrides]))
    if schema is not EvalConfig:
        return config_of_layers(schema, path, layers)
    config, origins = merge_evaluation(path, layers)
    assert isinstance(config, schema)
    return config, origins


def to_yaml(config: Section) -> str:
    """The config as YAML that loads back to an equal config."""
    return OmegaConf.to_yaml(OmegaConf.structured(config))


def describe(config: Section, origins: Mapping[str, str]) -> str:
    """The resolved config, one setting a line, each followed by where its value came from."""
    values = OmegaConf.to_container(OmegaConf.structured(config))
    assert isinstance(values, dict)
    lines = [
        (f"{key} = {value!r}", origins.get(key, _nearest_origin(key, origins)))
        for key, value in flatten({str(k): v for k, v in values.items()}).items()
    ]
    width = min(72, max(len(left) for left, _ in lines))
    return "\n".join(f"{left:<{width}}  # {origin}" for left, origin in lines)


def _nearest_origin(key: str, origins: Mapping[str, str]) -> str:
    while "." in key:
        key = key.rpartition(".")[0]
        if key in origins:
            return origins[key]
    return "default"
