"""Loading a model: a folder or hub id to model, tokenizer and family, with the attention kernel that fits."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from configs.errors import ConfigError
from configs.hub_files import MODEL_FILES, SAFETENSORS, is_hub_error
from configs.locations import check_model_location
from configs.run_dir import ExportDir
from train.chat.tokenizer import load_tokenizer
from train.models.checked_loading import check_image_token, check_vocabulary, load_checked
from train.models.fingerprint import model_identity
from train.models.model_folder import check_generation_settings, read_object
from train.models.registry import family_of
from train.models.types import Family

SETTINGS_ENOUGH = (
    "a dry run needs no weights: a folder with the model's config.json, tokenizer and image processor is enough "
    "(--set model.base=FOLDER)"
)
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


@dataclass(frozen=True)
class LoadedModel:
    """A model, its tokenizer, its family, and what identifies its weights."""

    model: Any
    tokenizer: PreTrainedTokenizerBase
    family: Family
    folder: Path
    identity: str

    @property
    def end_tokens(self) -> frozenset[int]:
        """Ids of the tokens that end an answer by the folder's generation_config.json, or else config.json."""
        stated = getattr(getattr(self.model, "generation_config", None), "eos_token_id", None)
        return frozenset([stated] if isinstance(stated, int) else stated or ())


def resolve_folder(path_or_id: str, revision: str | None = None, *, weights: bool = True) -> Path:
    """The local folder of a model: `path_or_id` itself, or the hub's snapshot of it, with or without its `weights`.

    Raises `ConfigError` if `path_or_id` is neither a folder nor a hub id that can be downloaded.
    """
    folder = Path(path_or_id)
    if folder.is_dir():
        return folder
    check_model_location(path_or_id)
    from huggingface_hub import snapshot_download

    patterns = [pattern for pattern in MODEL_FILES if weights or pattern != SAFETENSORS]
    try:
        return Path(snapshot_download(path_or_id, revision=revision, allow_patterns=patterns))
    except Exception as error:
        if not is_hub_error(error):
            raise
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ConfigError(
            f"{path_or_id} is not a folder here, and could not be downloaded from the hub: {reason}"
            f"{'' if weights else f'; {SETTINGS_ENOUGH}'}"
        ) from error


def resolve_attention(choice: str, device: str, dtype: str = "bf16") -> str:
    """The kernel name for transformers. Raises `ConfigError` that names the extra if flash-attn is missing."""
    installed = importlib.util.find_spec("flash_attn") is not None
    if choice == "auto":
        return "flash_attention_2" if installed and device == "cuda" and dtype != "fp32" else "sdpa"
    if choice == "flash_attention_2" and dtype == "fp32":
        raise ConfigError("model.attention is flash_attention_2, which needs 16 bits, and dtype is fp32; use sdpa")
    if choice == "flash_attention_2" and not installed:
        raise ConfigError(
            "model.attention is flash_attention_2 but flash-attn is not installed: "
            "pip install 'vlm-classify[flash-attn]', or set model.attention=sdpa"
        )
    if choice == "flash_attention_2" and device != "cuda":
        raise ConfigError("model.attention is flash_attention_2, which needs a GPU; set model.attention=sdpa")
    return choice


def _refuse_adapter(folder: Path) -> None:
    """An export that keeps its LoRA apart is not the trained model until peft puts the two together."""
    export = ExportDir(folder)
    record = export.record
    if record.is_file() and read_object(record).get("adapter"):
        raise ConfigError(f"{folder} keeps its LoRA in {export.adapter}; export the run without --keep-adapter")


def load_model(path_or_id: str, revision: str | None, dtype: str, attention: str, device: str = "cpu") -> LoadedModel:
    """Load a model folder or hub id in `dtype` (`bf16`, `fp16` or `fp32`) onto `device`, without running code from it.

    Raises `ConfigError` for a missing folder, an unsupported family, a missing attention kernel, weights that are not
    all in the folder, or a tokenizer with more tokens than the embedding has rows.
    """
    folder = resolve_folder(path_or_id, revision)
    _refuse_adapter(folder)
    family = family_of(folder)
    identity = model_identity(folder)
    check_generation_settings(folder)
    kernel = attention_of(family, attention, device, dtype)
    tokenizer = load_tokenizer(folder)
    model = load_checked(family.model_class, folder, dtype=DTYPES[dtype], attn_implementation=kernel)
    rows = int(family.text_config.vocab_size)
    check_vocabulary(folder, tokenizer, rows)
    check_image_token(folder, tokenizer, (family.image_token, family.image_token_id), rows)
    model.to(device)
    bound = type(family)(model.config, folder)
    return LoadedModel(model, tokenizer, bound, folder, identity)


def attention_of(family: Family, choice: str, device: str, dtype: str) -> str:
    """The attention kernel, where the family has it. Raises `ConfigError` if it is set by name and missing."""
    kernel = resolve_attention(choice, device, dtype)
    if kernel != "flash_attention_2" or family.flash_attention:
        return kernel
    if choice != "auto":
        raise ConfigError(f"attention is {choice}, which {family.name} does not have in transformers; set sdpa")
    return "sdpa"
