"""Tokenizers from wherever they lie: a model folder, a hub id, a tokenizer.json, a SentencePiece file."""

import shutil
import tempfile
from pathlib import Path

from transformers import AutoTokenizer, LlamaTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from configs.errors import ConfigError
from configs.locations import is_hub_id
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
    except (OSError, ValueError) as error:
        raise ConfigError(f"no tokenizer at {path_or_id}: {str(error).splitlines()[0]}") from error
    return tokenizer


def _from_sentencepiece(path: Path) -> PreTrainedTokenizerBase:
    """A LLaMA tokenizer from its SentencePiece file alone; transformers only takes folders of fixed names."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(path, Path(folder) / "tokenizer.model")
        tokenizer: PreTrainedTokenizerBase = LlamaTokenizer.from_pretrained(folder)
        restore(tokenizer, {"tokenizer.model": path})
    return tokenizer
