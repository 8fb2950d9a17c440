"""The model families by `model_type` of config.json: a new family is a file of its own and one line here."""

import importlib
import json
from pathlib import Path

from transformers import AutoConfig

from configs.errors import ConfigError
from train.models.types import Family, TrainableFamily

FAMILIES = {
    "llava": "train.models.llava:LlavaFamily",
    "llava_next": "train.models.llava_next:LlavaNextFamily",
    "blip-2": "train.models.blip2:Blip2Family",
    "instructblip": "train.models.instructblip:InstructBlipFamily",
}


def family_class(model_type: str) -> type[Family]:
    """The class behind a line of `FAMILIES`."""
    module, _, name = FAMILIES[model_type].partition(":")
    found: type[Family] = getattr(importlib.import_module(module), name)
    return found


def family_of(folder: Path) -> Family:
    """The family of the model in `folder`, by its config.json. Raises `ConfigError` with the list for any other."""
    file = folder / "config.json"
    if not file.is_file():
        raise ConfigError(f"{folder} has no config.json; it is not a model folder")
    config = json.loads(file.read_text(encoding="utf-8-sig"))
    model_type = config.get("model_type")
    if model_type not in FAMILIES:
        raise ConfigError(f"{folder} holds a model of type {model_type!r}; supported: {', '.join(FAMILIES)}")
    family = family_class(model_type)
    if reason := family.refuse(config):
        raise ConfigError(f"{folder} holds a {family.name} model {reason}")
    return family(AutoConfig.from_pretrained(folder, trust_remote_code=False), folder)


def trainable_family_of(folder: Path) -> TrainableFamily:
    """The same for a training. Raises `ConfigError` also for a family that is only evaluated."""
    family = family_of(folder)
    if isinstance(family, TrainableFamily):
        return family
    trainable = [found for found in map(family_class, FAMILIES) if issubclass(found, TrainableFamily)]
    known = ", ".join(f"{found.name} ({found.model_type})" for found in trainable)
    raise ConfigError(
        f"{folder} holds a {family.name} model ({family.model_type}), which can be evaluated and not trained; "
        f"training supports {known}: set model.base to such a model"
    )
