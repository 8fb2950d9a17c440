"""Loading a model folder, and the module that DeepSpeed trains: batch in, weighted loss out.

Tensor shapes: `B` rows, `T` tokens a row, `C` conversations (`B` of them unless packed), `N` images, `S` pixels a side,
`H` hidden size, `V` vocabulary, `M` supervised tokens of the batch.
"""

import importlib.util
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import AutoModelForImageTextToText, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from configs.errors import ConfigError
from configs.locations import is_hub_id
from data_prep.sample import UnreadableSample
from train.chat.conversation import IGNORE_INDEX
from train.chat.tokenizer import load_tokenizer
from train.models.families import Family, TrainableFamily, family_of
from train.models.fingerprint import model_identity

MODEL_FILES = ("*.json", "*.safetensors", "*.model", "*.txt")  # of a hub's repository, its sub-folders included
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


@dataclass(frozen=True)
class LoadedModel:
    """A model with everything needed to talk to it."""

    model: Any
    tokenizer: PreTrainedTokenizerBase
    family: Family
    folder: Path
    identity: str
    instruction_tokenizer: PreTrainedTokenizerBase | None = None  # of a Q-Former that reads the question


def resolve_folder(place: str, revision: str | None = None) -> Path:
    """The local folder of a model: `place` itself, or the hub's snapshot of it.

    Raises `ConfigError` if `place` is neither a folder nor a hub id that can be had.
    """
    folder = Path(place)
    if folder.is_dir():
        return folder
    if not is_hub_id(place):
        raise ConfigError(f"no model folder {place}; give a folder with a config.json, or a hub id such as owner/name")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(place, revision=revision, allow_patterns=list(MODEL_FILES)))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"{place} is not a folder here, and the hub did not give it: {reason}") from error


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
    record = folder / "export.json"
    if record.is_file() and json.loads(record.read_text(encoding="utf-8")).get("adapter"):
        raise ConfigError(f"{folder} keeps its LoRA in {folder / 'adapter'}; export the run without --keep-adapter")


def load_model(place: str, revision: str | None, dtype: str, attention: str, device: str = "cpu") -> LoadedModel:
    """Load a model folder or hub id in `dtype` (`bf16`, `fp16` or `fp32`) onto `device`, without running code from it.

    Raises `ConfigError` for a missing folder, an unsupported family or a missing attention kernel.
    """
    folder = resolve_folder(place, revision)
    _refuse_adapter(folder)
    family = family_of(folder)
    instructions = family.instruction_tokenizer(folder)
    if not sys.stderr.isatty():
        transformers_logging.disable_progress_bar()
    model = AutoModelForImageTextToText.from_pretrained(
        folder,
        dtype=DTYPES[dtype],
        attn_implementation=_attention_of(family, attention, device, dtype),
        trust_remote_code=False,
        local_files_only=True,
    )
    model.to(device)
    return LoadedModel(model, load_tokenizer(folder), family, folder, model_identity(folder), instructions)


def _attention_of(family: Family, choice: str, device: str, dtype: str) -> str:
    """The kernel, where the family has it. Raises `ConfigError` if it was asked for by name and is not there."""
    kernel = resolve_attention(choice, device, dtype)
    if kernel != "flash_attention_2" or family.flash_attention:
        return kernel
    if choice != "auto":
        raise ConfigError(f"attention is {choice}, which {family.name} does not have in transformers; set sdpa")
    return "sdpa"


@dataclass
class Batch:
    """One micro-batch of one rank: `C` conversations, one a row padded on the right, or packed into a single row.

    `weights` carries the whole loss normalisation: the loss is the sum over tokens of weight x cross entropy, so
    a padded or unsupervised token has weight 0. `sources` numbers the data source of each conversation.
    """

    input_ids: torch.Tensor  # (B, T) int64, images expanded
    attention_mask: torch.Tensor  # (B, T) int64, 0 on padding
    labels: torch.Tensor  # (B, T) int64, -100 where unsupervised, and at the first token of each conversation
    weights: torch.Tensor  # (B, T) float32
    sequence_ids: torch.Tensor  # (B, T) int64, the conversation (0 to C - 1) that a token belongs to, -1 on padding
    pixels: torch.Tensor  # (N, 3, S, S) uint8
    sources: torch.Tensor  # (C,) int64
    ids: tuple[str, ...]  # C
    unreadable: tuple[UnreadableSample, ...] = ()  # each is replaced by an example whose loss weighs 0
    packed: bool = False

    def pin_memory(self) -> "Batch":
        """The same batch in page-locked memory, from where it is copied to a GPU without waiting (called by torch)."""
        return self._with(torch.Tensor.pin_memory)

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch with its tensors on `device`."""
        return self._with(lambda tensor: tensor.to(device, non_blocking=True))

    def _with(self, change: Callable[[torch.Tensor], torch.Tensor]) -> "Batch":
        tensors: dict[str, Any] = {
            name: change(value) for name, value in vars(self).items() if isinstance(value, torch.Tensor)
        }
        return replace(self, **tensors)

    def lengths(self) -> torch.Tensor:
        """(C,) tokens of each conversation."""
        return torch.bincount(self.sequence_ids[self.sequence_ids >= 0], minlength=len(self.ids))

    def supervised(self) -> torch.Tensor:
        """(C,) supervised tokens of each conversation: those that the token before them predicts."""
        return torch.bincount(self.sequence_ids[:, 1:][self.labels[:, 1:] != IGNORE_INDEX], minlength=len(self.ids))


class LossModule(nn.Module):
    """What DeepSpeed wraps: runs tower, projector and decoder on every micro-batch, also on one without images.

    A micro-batch without an image gets a dummy one whose features count zero times: otherwise its loss would have
    no path to the projector, and ZeRO-3's collectives would wait for the ranks that have one.
    """

    def __init__(self, model: Any, family: TrainableFamily, pixels: Any):
        """`pixels` is the `PixelProcessor` that normalises on the device."""
        super().__init__()
        self.model = model
        self.family = family
        self.pixels = pixels
        self.image_token_id = int(model.config.image_token_id)

    def forward(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the weighted loss (scalar, fp32) and each conversation's unweighted sum of cross entropy (C,)."""
        embeddings = self._embeddings(batch)
        decoder: Any = self.family.language_model(self.model)
        attention = attention_arguments(batch, decoder.config._attn_implementation, embeddings.dtype)
        hidden = decoder(inputs_embeds=embeddings, use_cache=False, **attention)
        states = hidden.last_hidden_state  # (B, T, H)
        rows, places = (batch.labels[:, 1:] != IGNORE_INDEX).nonzero(
            as_tuple=True
        )  # (M,): place t predicts token t + 1
        predicted = (rows, places + 1)
        logits = self.model.lm_head(states[rows, places])  # (M, V): the head runs where it is needed only
        losses = F.cross_entropy(logits.float(), batch.labels[predicted], reduction="none")  # (M,)
        loss = (losses * batch.weights[predicted]).sum()
        by_sample = torch.zeros(len(batch.ids), device=losses.device)
        by_sample.index_add_(0, batch.sequence_ids[predicted], losses.detach())
        # 0 x states keeps the graph whole where nothing is supervised
        return loss + 0.0 * states[:, 0].float().sum(), by_sample

    def _embeddings(self, batch: Batch) -> torch.Tensor:
        """(B, T, H): word embeddings with the image positions replaced by image features."""
        words: torch.Tensor = self.model.get_input_embeddings()(batch.input_ids)
        pixels = batch.pixels
        if not len(pixels):
            size = self.pixels.size
            pixels = torch.zeros(1, 3, size, size, dtype=torch.uint8, device=words.device)
        features = self.family.image_features(self.model, self.pixels.normalize(pixels, words.dtype))  # (N, P, H)
        if not len(batch.pixels):
            return words + 0.0 * features.sum()
        places = (batch.input_ids == self.image_token_id).unsqueeze(-1).expand_as(words)
        return words.masked_scatter(places, features.to(words.dtype))


def attention_arguments(batch: Batch, kernel: str, dtype: torch.dtype) -> dict[str, torch.Tensor | None]:
    """What the decoder needs so that each conversation sees itself only, as if it were alone.

    transformers recognises packed conversations by positions that start anew, but only without a mask; its flash
    attention then runs each by itself. The other kernels take an additive mask (1, 1, T, T) as it is.
    """
    if not batch.packed:
        return {"attention_mask": batch.attention_mask}
    sequence_ids = batch.sequence_ids[0]  # (T,)
    starts = torch.cumsum(batch.lengths(), 0) - batch.lengths()  # (C,)
    places = torch.arange(len(sequence_ids), device=sequence_ids.device)
    positions = (places - starts[sequence_ids]).unsqueeze(0)  # (1, T)
    if kernel.startswith("flash_attention"):
        return {"attention_mask": None, "position_ids": positions}
    visible = (sequence_ids[:, None] == sequence_ids[None, :]) & (places[:, None] >= places[None, :])  # (T, T)
    mask = torch.zeros(visible.shape, dtype=dtype, device=sequence_ids.device)
    mask = mask.masked_fill(~visible, torch.finfo(dtype).min)
    return {"attention_mask": mask[None, None], "position_ids": positions}
