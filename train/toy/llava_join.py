"""A LLaVA made of a CLIP and a language model, with a new projector."""

import argparse
import json
from pathlib import Path

import torch
from transformers import CLIPModel, LlavaForConditionalGeneration

from configs.command_line import exit_on_user_error
from configs.errors import ConfigError, UserError
from configs.run_dir import MODEL_CONFIG
from train.models.checked_loading import load_checked
from train.toy.base_projector import assemble, save
from train.toy.language_model import add_image_token, read_language


def join(clip: Path, language: Path, output: Path, *, seed: int) -> LlavaForConditionalGeneration:
    """Write the LLaVA made of both to `output`, in float32, and return it.

    Raises `ConfigError` for a folder of another model.
    """
    _check(clip, "clip", "python -m train.toy.tiny_clip makes one")
    found = read_language(language)
    tower = load_checked(CLIPModel, clip).vision_model
    add_image_token(found)
    torch.manual_seed(seed)  # of the projector
    places = (tower.config.image_size // tower.config.patch_size) ** 2
    model = assemble(tower, found.model, found.tokenizer, places)
    save(model, found.tokenizer, output, found.model.generation_config)
    return model


def _check(folder: Path, kind: str, advice: str) -> None:
    """Raise `ConfigError` unless `folder` holds a model of that kind."""
    file = folder / MODEL_CONFIG
    found = json.loads(file.read_text(encoding="utf-8-sig")).get("model_type") if file.is_file() else None
    if found != kind:
        raise ConfigError(f"{folder} contains {f'a {found}' if found else 'no model'}, not a {kind}; {advice}")


def join_and_print(options: argparse.Namespace) -> None:
    """The command line. Exits with code 2 on a mistake."""
    try:
        model = join(options.clip, options.language, options.output, seed=options.seed)
    except UserError as error:
        exit_on_user_error(error)
    print(
        f"wrote {options.output}: {model.num_parameters():,} weights, {model.config.image_seq_length} tokens per image"
    )
