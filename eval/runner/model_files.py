"""The files of a model folder that change its answers, other than the weights: processor, tokenizer, end tokens.

The same weights give other answers with another image size or another end token, so each file's digest is part of the
identity of stored answers (`eval.runner.evaluation_record`). Loads no torch.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from configs.run_dir import MODEL_CONFIG, TOKENIZER_FILES
from data_prep.checksum import sha256_of
from eval.runner.evaluation_record import MODEL_FILES, Evaluation
from train.chat.templates import FOLDER
from train.models.chat_files import chat_template_source
from train.models.processor_settings import FLAT, NESTED

JSON_FILES = (
    *(MODEL_CONFIG, "generation_config.json", FLAT, NESTED),
    *("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
)
OTHER_FILES = (*TOKENIZER_FILES, "merges.txt")
NO_EFFECT = ("_name_or_path", "transformers_version", "torch_dtype", "dtype", "chat_template")
"""Keys that change no answer: the precision is a setting of the evaluation; a chat template counts by `TEMPLATE`."""
TEMPLATE = "chat_template"
"""Name of the folder's chat template, from whichever file, where prompts are rendered with it."""


def with_model_files(evaluation: Evaluation, model: Path) -> Evaluation:
    """`evaluation` with the digests of the files in the folder `model`; unchanged without such a folder (an API)."""
    files = model_files(model, evaluation.generation_settings)
    if not files:
        return evaluation
    return replace(evaluation, generation_settings={**evaluation.generation_settings, MODEL_FILES: files})


def model_files(model: Path, settings: Mapping[str, Any]) -> dict[str, str]:
    """File name to the sha256 (hexadecimal) of what has an effect in it, for each file that is in the folder.

    `settings` are those of the questions: with the chat template `folder`, that of the folder has an effect too.
    """
    found = {name: _digest_of_json(model / name) for name in JSON_FILES if (model / name).is_file()}
    whole = {name: sha256_of(model / name) for name in OTHER_FILES if (model / name).is_file()}
    if settings.get("template") == FOLDER and (template := chat_template_source(model)) is not None:
        whole[TEMPLATE] = hashlib.sha256(template).hexdigest()
    return found | whole


def _digest_of_json(file: Path) -> str:
    """Digest of the values, whatever their order; of the bytes if the file is not valid JSON."""
    try:
        values = json.loads(file.read_text(encoding="utf-8-sig"))
    except ValueError:
        return sha256_of(file)
    return hashlib.sha256(json.dumps(_effective(values), sort_keys=True).encode()).hexdigest()


def _effective(values: Any) -> Any:
    if not isinstance(values, dict):
        return values
    return {key: _effective(value) for key, value in values.items() if key not in NO_EFFECT}
