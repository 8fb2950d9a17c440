"""The text files of an export: tokenizer, processor and generation settings, with what the training changed.

The image processor gets the training's image mode. The token that ends an answer in training is written as the end
token wherever the base names another one (`<|end|>`, `<|im_end|>`): the exported model would not stop otherwise.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from configs.model import ChatConfig
from data_prep.atomic import write_bytes
from train.chat.tokenizer import load_tokenizer
from train.models.model_folder import read_object
from train.models.processor_settings import CLIP_MEAN, CLIP_STD, FLAT, NESTED, processor_file
from train.models.trainable import TrainableFamily

_TEXT_FILES = (
    *("tokenizer*", "vocab.json", "merges.txt", "special_tokens_map.json", "added_tokens.json"),
    *("chat_template*", "generation_config.json", "video_preprocessor_config.json"),
)
GENERATION, TOKENIZER, SPECIAL_TOKENS = "generation_config.json", "tokenizer_config.json", "special_tokens_map.json"


def write_text_files(family: TrainableFamily, base: Path, output: Path, chat: ChatConfig) -> None:
    """Copy the text files of `base` to `output`, a saved model, with the image mode and end token of the training."""
    for pattern in _TEXT_FILES:
        for file in base.glob(pattern):
            shutil.copyfile(file, output / file.name)
    for name in family.folders:
        shutil.copytree(base / name, output / name)
    write_processor(family, base, output, chat.image_mode)
    tokenizer = load_tokenizer(base)
    end = family.renderer(tokenizer, chat.template, chat.system_prompt).eos
    write_end_token(output, end, str(tokenizer.convert_ids_to_tokens(end)))


def write_end_token(folder: Path, end: int, text: str) -> None:
    """Make `end`, the token that is spelled `text`, the end token of the model and the tokenizer in `folder`.

    Generation also stops at the end tokens that the folder named before.
    """
    file = folder / GENERATION
    settings = read_object(file) if file.is_file() else {}
    stated = settings.get("eos_token_id")
    before = [stated] if isinstance(stated, int) else list(stated or ())
    if end not in before:
        settings["eos_token_id"] = [end, *before] if before else end
        _write(file, settings)
    for name in (TOKENIZER, SPECIAL_TOKENS):
        file = folder / name
        settings = read_object(file) if file.is_file() else {}
        token = settings.get("eos_token")
        if settings and (token.get("content") if isinstance(token, dict) else token) != text:
            settings["eos_token"] = token | {"content": text} if isinstance(token, dict) else text
            _write(file, settings)


def write_processor(family: TrainableFamily, base: Path, output: Path, image_mode: str) -> None:
    """Copy the processor's settings, with the image mode of the training written into them."""
    settings = {name: read_object(base / name) for name in (NESTED, FLAT) if (base / name).is_file()}
    source, _ = processor_file(base)
    if source is None:  # an evaluation of the export must see what the training saw
        settings[FLAT] = {"image_mean": CLIP_MEAN, "image_std": CLIP_STD}
        source = base / FLAT
    target = settings[source.name]
    if isinstance(target.get("image_processor"), dict):
        target = target["image_processor"]
    target.update(family.exported_processor(target, image_mode))
    for name, content in settings.items():
        _write(output / name, content)


def _write(file: Path, settings: dict[str, Any]) -> None:
    write_bytes(file, json.dumps(settings, indent=2, ensure_ascii=False).encode())
