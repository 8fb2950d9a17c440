"""Training recipes: settings that belong together, each with its source, as `configs/recipes/NAME.yaml`.

    recipe: paper                 in a run's file: its other settings override the recipe, and it replaces a base's
    --set recipe=official         overrides the run's files; every other --set overrides the recipe

A recipe file has one entry a setting: `optim.clip_norm: {value: 0, source: "where the value comes from"}`.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from configs.errors import ConfigError
from configs.layers import Layer, read_yaml
from configs.section import Section

RECIPES = Path(__file__).resolve().parent / "recipes"
KEY = "recipe"
OUTSIDE = ("name", KEY, "base")  # what names a run is no part of how it is trained


@dataclass(frozen=True, slots=True)
class RecipeSetting:
    """A value, and where it comes from: a section of the paper, a file of its authors, or our reason."""

    value: Any
    source: str


def recipe_names() -> list[str]:
    """The recipes that are shipped."""
    return sorted(file.stem for file in RECIPES.glob("*.yaml"))


def read_recipe(name: str) -> dict[str, RecipeSetting]:
    """The settings of the recipe `name`, or of a YAML file, by dotted name.

    Raises `ConfigError` for an unknown recipe and for a malformed entry.
    """
    shipped = RECIPES / f"{name}.yaml"
    file = shipped if shipped.is_file() else Path(name)
    if not file.is_file():
        raise ConfigError(f"recipe is {name!r}; choose one of {', '.join(recipe_names())}, or give a YAML file")
    settings = {}
    for key, entry in read_yaml(file).items():
        if not isinstance(entry, Mapping) or set(entry) != {"value", "source"} or not entry["source"]:
            raise ConfigError(f"{file}: {key} must be of the form {{value: 0, source: where the value comes from}}")
        if str(key).split(".")[0] in OUTSIDE:
            raise ConfigError(f"{file} sets {key}, which names a run; a recipe holds settings of training only")
        settings[key] = RecipeSetting(entry["value"], str(entry["source"]))
    return settings


def with_recipe(schema: type[Section], files: Sequence[Layer], overrides: Sequence[Layer]) -> list[Layer]:
    """All layers, those of the chosen recipe before the file that names it, or after all files.

    Raises `ConfigError` as `read_recipe`.
    """
    layers = [*files, *overrides]
    if KEY not in {spec.name for spec in dataclasses.fields(schema)}:
        return layers
    chosen = max((number for number, (_, values) in enumerate(layers) if KEY in values), default=None)
    if chosen is None or layers[chosen][1][KEY] is None:
        return layers
    name = layers[chosen][1][KEY]
    if not isinstance(name, str):
        raise ConfigError(f"{layers[chosen][0]}: recipe is {name!r}; choose one of {', '.join(recipe_names())}")
    first = min(chosen, len(files))
    try:
        return [*layers[:first], *recipe_layers(name), *layers[first:]]
    except ConfigError as error:
        raise ConfigError(f"{layers[chosen][0]}: {error}") from error


def recipe_layers(name: str) -> list[Layer]:
    """One layer a setting, whose origin is its source. Raises `ConfigError` as `read_recipe`."""
    layers = []
    for key, setting in read_recipe(name).items():
        single = OmegaConf.create()
        OmegaConf.update(single, key, setting.value)
        values = OmegaConf.to_container(single)
        assert isinstance(values, dict)
        layers.append((f"recipe {name}: {setting.source}", {str(k): value for k, value in values.items()}))
    return layers


def recipe_record(config: Section) -> dict[str, Any] | None:
    """What a checkpoint records: the recipe's name, and the values of the settings that differ from it; None for none.

    Raises `ConfigError` as `read_recipe`.
    """
    name = getattr(config, KEY)
    if name is None:
        return None
    changed = {}
    for key, setting in read_recipe(name).items():
        value: Any = config
        for part in key.split("."):
            value = getattr(value, part)
        value = list(value) if isinstance(value, tuple) else value
        if value != setting.value:
            changed[key] = value
    return {"name": name, "changed": changed}
