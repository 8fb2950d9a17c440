"""Loads models through transformers and refuses any whose weights are not all from the folder.

transformers initialises missing weights at random and continues; here they are an error.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import AutoConfig
from transformers.utils import logging as transformers_logging

from configs.errors import ConfigError, first_line
from configs.run_dir import MODEL_CONFIG
from train.models.model_folder import loaded_files, read_header, shortened

HARMLESS = re.compile(
    r"(^|\.)(position_ids"  # buffers of CLIP, BERT: 0, 1, 2, ...; older transformers stored them
    r"|rotary_emb\.inv_freq"  # a function of config.json; older transformers stored it
    r"|rotary_emb\.(cos|sin)_cached"
    r"|attn\.masked_bias)$"
)
"""Unexpected weights that every model does without: constants that older versions of transformers wrote."""

FAILURES = (
    OSError,
    ValueError,
    RuntimeError,
    ImportError,
    KeyError,
    TypeError,
    AttributeError,
    EOFError,
    SafetensorError,
    StrictDataclassError,
    UnpicklingError,
)
"""What transformers raises for folders that it cannot read."""


def load_checked(loader: Any, folder: Path, *, other_parts: tuple[str, ...] = (), **options: Any) -> Any:
    """`loader.from_pretrained(folder, **options)`, without running code from the folder or asking the hub.

    `other_parts` are prefixes of weights that this loader leaves aside. Raises `ConfigError` if the folder cannot be
    read, or a weight is missing, unexpected, of another shape or not finite.
    """
    with quiet_transformers():
        try:
            model, info = loader.from_pretrained(
                folder,
                trust_remote_code=False,
                local_files_only=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                **options,
            )
        except FAILURES as error:
            raise ConfigError(f"{folder} cannot be loaded: {first_line(error)}") from error
    check_loading_info(folder, info, other_parts)
    check_finite(folder, model)
    return model


def check_weight_headers(
    loader: Any, folder: Path, config: Any, *, other_parts: tuple[str, ...] = (), **options: Any
) -> None:
    """What `load_checked` finds in names and shapes, from the headers of the safetensors files alone.

    transformers loads tensors without storage (PyTorch's meta device) into a model without storage, so key renamings
    are its own. Raises `ConfigError` as `load_checked` does; whether values are finite is not seen.
    """
    stored = {
        name: torch.empty(entry["shape"], device="meta")
        for file in loaded_files(folder)
        for name, entry in read_header(file).items()
    }
    model_class = loader._model_mapping[type(config)] if hasattr(loader, "_model_mapping") else loader
    with quiet_transformers():
        try:
            _, info = model_class.from_pretrained(
                None,
                config=config,
                state_dict=stored,
                device_map={"": "meta"},
                dtype=torch.float32,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                **options,
            )
        except FAILURES as error:
            raise ConfigError(f"{folder} cannot be loaded: {first_line(error)}") from error
    check_loading_info(folder, info, other_parts)


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Within it transformers shows no bar, as those of several ranks overwrite each other, and no loading report."""
    verbosity, bar = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    if not torch.cuda.is_available():  # saving imports DeepSpeed, which warns where it looks for a GPU in vain
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bar:
            transformers_logging.enable_progress_bar()


def read_transformers_config(folder: Path) -> Any:
    """transformers' configuration of the model in `folder`. Raises `ConfigError` if config.json makes none."""
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except FAILURES as error:
        raise ConfigError(f"{folder / MODEL_CONFIG} is not a usable configuration: {first_line(error)}") from error


def check_loading_info(folder: Path, info: dict[str, Any], other_parts: tuple[str, ...] = ()) -> None:
    """Raise `ConfigError` that names and counts the weights that `info`, transformers' loading info, finds wrong."""
    missing = sorted(info["missing_keys"])
    extra = sorted(
        name for name in info["unexpected_keys"] if not HARMLESS.search(name) and not name.startswith(other_parts)
    )
    other = sorted(info["mismatched_keys"])
    found = [
        *([f"{_count(missing)} missing ({shortened(missing)})"] if missing else []),
        *([f"{_count(extra)} unexpected ({shortened(extra)})"] if extra else []),
        *([f"{_count(other)} of another shape ({shortened([_shapes(*entry) for entry in other])})"] if other else []),
        *([f"transformers reports {info['error_msgs'][0]}"] if info.get("error_msgs") else []),
    ]
    if found:
        raise ConfigError(
            f"{folder} does not hold the model that its config.json describes: {'; '.join(found)}. "
            f"{_advice(missing, extra, other)}"
        )


def check_finite(folder: Path, model: Any) -> None:
    """Raise `ConfigError` that names and counts the weights with a value that is NaN or infinite."""
    damaged = sorted(
        name for name, weight in model.named_parameters() if not weight.detach().sum(dtype=torch.float32).isfinite()
    )
    if damaged:
        raise ConfigError(
            f"{folder} holds NaN or infinite values in {len(damaged):,} of its weights ({shortened(damaged)}); the "
            "training that wrote it diverged, or the conversion overflowed (bf16 or fp32 to fp16): export an earlier "
            "checkpoint, or convert it again"
        )


def check_vocabulary(folder: Path, tokenizer: Any, rows: int) -> None:
    """Raise `ConfigError` if `tokenizer` has ids for which the embedding of `rows` rows has none."""
    above = sorted((number, token) for token, number in tokenizer.get_vocab().items() if number >= rows)
    if above:
        examples = shortened([f"{token!r} is {number}" for number, token in above])
        raise ConfigError(
            f"{folder}: the tokenizer has {len(above)} tokens above the embedding's {rows:,} rows ({examples}); take "
            "the tokenizer that belongs to the model, or resize the model (resize_token_embeddings) and save both"
        )


def check_image_token(folder: Path, tokenizer: Any, image: tuple[str, int], rows: int) -> None:
    """Raise `ConfigError` if the id of the image token is above the embedding's `rows`, or another token's.

    `image` is the token's spelling and its id by config.json.
    """
    token, number = image
    named = tokenizer.get_vocab().get(token, number)
    if number >= rows or number != named:
        reason = f"the embedding has {rows:,} rows" if number >= rows else f"the tokenizer's {token} is {named}"
        raise ConfigError(
            f"{folder / MODEL_CONFIG}: image_token_id (or image_token_index) is {number}, and {reason}; "
            "take config.json and tokenizer of the same model"
        )


def _advice(missing: list[str], extra: list[str], other: list[Any]) -> str:
    """The next step."""
    if any(name.startswith("base_model.model.") or ".lora_" in name or ".base_layer." in name for name in extra):
        return "These are PEFT's names: merge the adapter (merge_and_unload) and save the model with save_pretrained"
    if any("mm_projector" in name or "vision_tower.vision_tower" in name for name in extra):
        return "These are the names of LLaVA's own code: take the converted model, such as llava-hf/llava-1.5-7b-hf"
    if other and all("embed_tokens" in name or "lm_head" in name for name, *_ in other):
        return (
            f"The vocabulary was resized: set vocab_size in config.json (in text_config, too) to {other[0][1][0]}, if "
            "the tokenizer has as many tokens, or save the model again with save_pretrained"
        )
    if missing and all(name.endswith("lm_head.weight") for name in missing):
        return (
            "Set tie_word_embeddings to true in config.json (in text_config, too) if the head shares the embedding's "
            "weights; otherwise get the complete model"
        )
    if missing and not extra and not other:
        return "The weights are incomplete: download or export the whole model again"
    return "Take config.json and weights from the same model, saved by transformers' save_pretrained"


def _count(names: list[Any]) -> str:
    return f"{len(names):,} {'weight is' if len(names) == 1 else 'weights are'}"


def _shapes(name: str, stored: tuple[int, ...], wanted: tuple[int, ...]) -> str:
    return f"{name} is {_shape(stored)} in the files, {_shape(wanted)} by config.json"


def _shape(sizes: tuple[int, ...]) -> str:
    return " x ".join(map(str, sizes)) or "a single number"
