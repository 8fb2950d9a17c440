"""Tokenizers from wherever they lie: a model folder, a hub id, a tokenizer.json, a SentencePiece file."""

import json
import shutil
import tempfile
from pathlib import Path

from transformers import AutoTokenizer, LlamaTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from configs.errors import ConfigError, first_line
from configs.locations import is_hub_id
from configs.run_dir import MODEL_CONFIG, TOKENIZER_FILES
from train.chat.sentencepiece_vocab import restore, tokenizer_files
from train.chat.templates import END


def load_tokenizer(path_or_id: str | Path) -> PreTrainedTokenizerBase:
    """A tokenizer from a folder, a hub id, a `tokenizer.json` or a SentencePiece `tokenizer.model` file.

    A LLaMA tokenizer gives SentencePiece's ids (`train.chat.sentencepiece_vocab`).
    Raises `ConfigError` if there is none.
    """
    path = Path(path_or_id)
    if not path.exists() and not is_hub_id(str(path_or_id)):  # avoids repeated requests to the hub
        raise ConfigError(f"no tokenizer at {path_or_id}: no such file or folder, and a hub id has the form owner/name")
    if path.is_dir() and not any((path / name).is_file() for name in TOKENIZER_FILES):
        raise ConfigError(
            f"{path} has no tokenizer ({', '.join(TOKENIZER_FILES[:2])} or another of its kind); copy tokenizer* and "
            f"special_tokens_map.json from the model that it was trained from{_origin(path)}"
        )
    try:
        if path.suffix == ".json" and path.is_file():
            single = PreTrainedTokenizerFast(
                tokenizer_file=str(path), bos_token="<s>", eos_token=END, unk_token="<unk>"
            )
            restore(single, {"tokenizer.json": path})
            return single
        if path.suffix == ".model" and path.is_file():
            return _from_sentencepiece(path)
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(str(path_or_id), trust_remote_code=False)
        restore(tokenizer, tokenizer_files(path_or_id))
        _take_processors_template(tokenizer, path)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"no tokenizer at {path_or_id}: {first_line(error)}") from error
    return tokenizer


def _take_processors_template(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Give the tokenizer the chat template of chat_template.json, which processors read where there is no .jinja."""
    file = folder / "chat_template.json"
    if file.is_file() and not (folder / "chat_template.jinja").is_file():
        tokenizer.chat_template = json.loads(file.read_text(encoding="utf-8-sig"))["chat_template"]


def _origin(folder: Path) -> str:
    """The model that the folder's configuration names as its origin, in words; empty if it names none."""
    try:
        name = json.loads((folder / MODEL_CONFIG).read_text(encoding="utf-8-sig")).get("_name_or_path")
    except (OSError, ValueError, AttributeError):
        return ""
    return f", {name}" if name and isinstance(name, str) else ""


def _from_sentencepiece(path: Path) -> PreTrainedTokenizerBase:
    """A LLaMA tokenizer from its SentencePiece file alone; transformers only takes folders of fixed names."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(path, Path(folder) / "tokenizer.model")
        tokenizer: PreTrainedTokenizerBase = LlamaTokenizer.from_pretrained(folder)
        restore(tokenizer, {"tokenizer.model": path})
    return tokenizer
