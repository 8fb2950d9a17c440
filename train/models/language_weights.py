"""Another model's language weights under a trained LoRA: what the paper's authors measured as "Proj+LM".

They train LoRA on LLaVA-1.5 and merge it onto Vicuna, from which LLaVA began (process_model.ipynb: `--model-base
lmsys/vicuna-7b-v1.5`): LLaVA's own change of the language model is lost, its tower and the trained projector stay.
`python -m train.export RUN --lora-onto FOLDER` builds that model; otherwise the run's base is used.
"""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from configs.errors import RunError
from train.models.checked_loading import load_checked, read_transformers_config
from train.models.fingerprint import model_identity
from train.models.types import Family


def take_language(model: Any, family: Family, folder: Path) -> str:
    """Put the language weights of the model in `folder` into `model` in place; returns that model's identity.

    `folder` holds a language model or another model of the family. Where it knows fewer words, as Vicuna does, the
    rows of the others stay. Raises `RunError` if a weight is missing or has another shape.
    """
    found = _language_weights(folder, family)
    words = (family.word_embeddings(model).weight, family.head(model).weight)
    for name, parameter in model.named_parameters():
        if family.part_of(name) != "language":
            continue
        other = found.get(name)
        problem = "no such weight" if other is None else f"{tuple(other.shape)} for {tuple(parameter.shape)}"
        rows = len(parameter) if other is None or not any(parameter is weight for weight in words) else len(other)
        if other is None or rows > len(parameter) or other.shape != (rows, *parameter.shape[1:]):
            raise RunError(
                f"{folder} has {problem}: {name}; --lora-onto takes a language model of the base's own shape"
            )
        parameter.data[:rows].copy_(other)
    return model_identity(folder)


def _language_weights(folder: Path, family: Family) -> dict[str, torch.Tensor]:
    """The weights in `folder` by the names that they have in a model of `family`."""
    kind = read_transformers_config(folder).model_type
    loader = family.model_class if kind == family.model_type else AutoModelForCausalLM
    other = load_checked(loader, folder, dtype="auto")
    weights: dict[str, torch.Tensor] = other.state_dict()
    if loader is family.model_class:
        return weights
    return {family.language_weight(name): weight for name, weight in weights.items()}
