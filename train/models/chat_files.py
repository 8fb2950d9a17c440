"""What a model folder's files say of its chat, read without loading the tokenizer."""

import json
from pathlib import Path
from typing import Any

from train.models.model_folder import read_object

TOKENIZER_CONFIG = "tokenizer_config.json"
TEMPLATE_FILES = ("chat_template.jinja", "chat_template.json", TOKENIZER_CONFIG)


def chat_template_source(folder: Path) -> bytes | None:
    """The folder's chat template, from the first of `TEMPLATE_FILES` that has one; None without."""
    for file in (folder / name for name in TEMPLATE_FILES):
        if not file.is_file():
            continue
        if file.suffix == ".jinja":
            return file.read_bytes()
        if template := read_object(file).get("chat_template"):
            return json.dumps(template).encode()
    return None


def folder_end(folder: Path) -> str | None:
    """The tokenizer's end token as the folder names it, or None."""
    file = folder / TOKENIZER_CONFIG
    token: Any = read_object(file).get("eos_token") if file.is_file() else None
    return token.get("content") if isinstance(token, dict) else token
