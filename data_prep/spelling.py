"""Class names that a model's tokenizer cannot write as they are: no answer of the model contains them.

    >>> changed_names(Path("train/assets/tiny_llava"), ["red fox", "Käfer", "T-shirt"])
    {'Käfer': '<unk>', 'T-shirt': 'T - shirt'}

Tokenizers of words, as that of the shipped small model, have no token for some characters, and put spaces around
punctuation marks. Those of large models write any text. Loads no torch.
"""

import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from data_prep.class_matching import shortened

TOKENIZER = "tokenizer.json"


def spelling_notes(folder: Path, counts: Mapping[str, int]) -> list[str]:
    """One sentence about the classes, names to numbers of samples, that the tokenizer in `folder` changes; or none."""
    changed = changed_names(folder, counts)
    if not changed:
        return []
    examples = shortened([f"{name!r} becomes {written!r}" for name, written in sorted(changed.items())])
    samples = sum(counts[name] for name in changed)
    return [
        f"the model's tokenizer cannot write {len(changed):,} of {len(counts):,} class names as they are ({examples}): "
        f"no answer about their {samples:,} items can be right; rename these classes (option rename of image_folder), "
        "or take another base model"
    ]


def changed_names(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Each of `names` that an answer of the model in `folder` cannot contain, to what the tokenizer makes of it.

    Case and surrounding spaces do not count, as in the scoring of answers. Empty where the tokenizer writes any text,
    or the folder has no tokenizer.json.
    """
    file = folder / TOKENIZER
    if not file.is_file():
        return {}
    tokenizer = _limited_tokenizer(file, file.stat().st_mtime_ns)
    if tokenizer is None:
        return {}
    written = {name: _written(tokenizer, name) for name in names}
    return {name: text for name, text in written.items() if name.strip().lower() not in text.lower()}


def _written(tokenizer: Tokenizer, name: str) -> str:
    ids = tokenizer.encode(name, add_special_tokens=False).ids
    return str(tokenizer.decode(ids, skip_special_tokens=False))


@lru_cache(maxsize=4)
def _limited_tokenizer(file: Path, _changed: int) -> Tokenizer | None:
    """The tokenizer in `file`; None if it writes any text, or cannot be read (which loading the model reports)."""
    try:
        values = json.loads(file.read_text(encoding="utf-8-sig"))
        if values["model"].get("byte_fallback") or "ByteLevel" in _types(values):
            return None
        return Tokenizer.from_file(str(file))
    except Exception:  # tokenizers raises no other type; whoever loads the model reports what is wrong
        return None


def _types(values: Mapping[str, Any]) -> set[str]:
    """Types of pre-tokenizers and decoders."""
    parts = [values.get(key) or {} for key in ("pre_tokenizer", "decoder")]
    parts += [one for part in parts for key in ("pretokenizers", "decoders") for one in part.get(key, ())]
    return {part.get("type", "") for part in parts}
