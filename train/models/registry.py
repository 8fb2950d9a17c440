"""The model families by `model_type` of config.json: a new family is its own file and one line here."""

import importlib
from pathlib import Path

from configs.errors import ConfigError
from train.models.checked_loading import read_transformers_config
from train.models.model_folder import check_sections, read_model_config
from train.models.trainable import TrainableFamily
from train.models.types import Family

FAMILIES = {
    "llava": "train.models.llava:LlavaFamily",
    "llava_next": "train.models.llava_next:LlavaNextFamily",
    "llava_onevision": "train.models.llava_onevision:LlavaOnevisionFamily",
    "blip-2": "train.models.blip2:Blip2Family",
    "instructblip": "train.models.instructblip:InstructBlipFamily",
    "qwen2_5_vl": "train.models.qwen2_5_vl:Qwen25VlFamily",
    "qwen3_vl": "train.models.qwen3_vl:Qwen3VlFamily",
    "smolvlm": "train.models.smolvlm:SmolVlmFamily",
    "idefics3": "train.models.smolvlm:Idefics3Family",
}
LLAVA_CODE = "this one is saved by LLaVA's own code: take the converted model, such as llava-hf/llava-1.5-7b-hf"
ADVICE = {
    "llava_llama": LLAVA_CODE,
    "llava_mistral": LLAVA_CODE,
    "qwen2_vl": "of the Qwen-VL models take a Qwen2.5-VL (qwen2_5_vl) or a dense Qwen3-VL (qwen3_vl)",
    "qwen3_vl_moe": "of Qwen3-VL only the dense models (2B, 4B, 8B, 32B) are supported, not a mixture of experts",
}
"""What to take in place of a model whose type, of the beginning of which this is, is not supported."""


def family_class(model_type: str) -> type[Family]:
    """The class behind a line of `FAMILIES`."""
    module, _, name = FAMILIES[model_type].partition(":")
    found: type[Family] = getattr(importlib.import_module(module), name)
    return found


def family_of(folder: Path) -> Family:
    """The family of the model in `folder`, by its config.json. Raises `ConfigError` with the list for any other."""
    config = read_model_config(folder)
    model_type = config.get("model_type")
    if model_type not in FAMILIES:
        advice = next((f"; {text}" for start, text in ADVICE.items() if str(model_type).startswith(start)), "")
        raise ConfigError(f"{folder} holds a model of type {model_type!r}; supported: {', '.join(FAMILIES)}{advice}")
    family = family_class(model_type)
    if reason := family.unsupported_reason(config):
        raise ConfigError(f"{folder} holds a {family.name} model {reason}")
    check_sections(folder, config, family.config_sections)
    return family(read_transformers_config(folder), folder)


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
