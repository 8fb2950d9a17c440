"""Texts to vectors: a sentence-transformers folder, or the text tower of a CLIP, loaded by transformers alone.

    encoder = load_sentence_encoder(Path("models/all-MiniLM-L6-v2"), "cpu")
    encoder.embed(["a dog", "a hound"])            # (2, H) fp32 vectors of length 1

A sentence-transformers folder names its steps in modules.json: a transformer, pooling (1_Pooling/config.json), dense
layers and normalization. Shapes: `N` texts, `T` tokens, `H` size of a vector.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModel, CLIPModel

from configs.errors import ConfigError
from configs.run_dir import MODEL_CONFIG
from eval.models.clip import read_tokenizer, unit_vectors
from eval.models.model_type import model_type
from train.models.checked_loading import load_checked

POOLINGS = {
    "cls": "pooling_mode_cls_token",
    "max": "pooling_mode_max_tokens",
    "mean": "pooling_mode_mean_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}
"""Ways to pool, in the order in which several are joined, with their names in 1_Pooling/config.json."""
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"Tanh": nn.Tanh, "Identity": nn.Identity, "ReLU": nn.ReLU}
STEPS = ("Transformer", "Pooling", "Dense", "Normalize")


@dataclass(frozen=True)
class SentenceEncoder:
    """`encode` maps texts to vectors; at most `length` tokens of a text are read."""

    encode: Callable[[list[str]], torch.Tensor]
    tokenizer: Any
    length: int

    @torch.inference_mode()
    def embed(self, texts: Sequence[str]) -> torch.Tensor:
        """(N, H) fp32 vectors of length 1, on the CPU."""
        return unit_vectors(texts, self.encode).cpu()

    def is_cut(self, text: str) -> bool:
        """Whether the text has more tokens than the encoder reads."""
        return len(self.tokenizer(text, truncation=False, verbose=False)["input_ids"]) > self.length


def load_sentence_encoder(folder: Path, device: str) -> SentenceEncoder:
    """The encoder in `folder`. Raises `ConfigError` for a folder that is neither of the two, or has an unknown step."""
    if not folder.is_dir():
        raise ConfigError(
            f"there is no folder {folder}; set grading.encoder to a sentence-transformers folder or a CLIP"
        )
    if not (folder / "modules.json").is_file():
        if model_type(folder) == "clip":
            return _clip(folder, device)
        raise ConfigError(
            f"{folder} has no modules.json, so it is no sentence-transformers folder, and no CLIP; set grading.encoder "
            "to one of them"
        )
    return _sentence_transformer(folder, device)


def _clip(folder: Path, device: str) -> SentenceEncoder:
    model = load_checked(CLIPModel, folder, dtype=torch.float32).eval().to(device)
    tokenizer = read_tokenizer(folder)
    length = int(model.config.text_config.max_position_embeddings)

    def encode(texts: list[str]) -> torch.Tensor:
        tokens = tokenizer(texts, padding=True, truncation=True, max_length=length, return_tensors="pt")
        inputs = {key: tokens[key].to(device) for key in ("input_ids", "attention_mask")}
        features: torch.Tensor = model.get_text_features(**inputs).pooler_output
        return features

    return SentenceEncoder(encode, tokenizer, length)


def _sentence_transformer(folder: Path, device: str) -> SentenceEncoder:
    modules = [
        (str(m.get("type")).rpartition(".")[2], folder / str(m.get("path"))) for m in _read(folder / "modules.json")
    ]
    kinds = [kind for kind, _ in modules]
    if unknown := [kind for kind in kinds if kind not in STEPS]:
        raise ConfigError(f"{folder} has the step {unknown[0]}; supported are {', '.join(STEPS)}")
    if kinds[:2] != ["Transformer", "Pooling"]:
        raise ConfigError(f"{folder}/modules.json begins with {', '.join(kinds[:2])}, not with Transformer, Pooling")
    base = modules[0][1]
    settings = _read(base / "sentence_bert_config.json") if (base / "sentence_bert_config.json").is_file() else {}
    model = load_checked(AutoModel, base, dtype=torch.float32).eval().to(device)
    tokenizer = read_tokenizer(base)
    limits = (settings.get("max_seq_length"), getattr(model.config, "max_position_embeddings", None))
    length = min(int(limit) for limit in (*limits, tokenizer.model_max_length) if limit)
    ways = _poolings(modules[1][1] / MODEL_CONFIG)
    layers = nn.Sequential(*(_dense(path) for kind, path in modules[2:] if kind == "Dense")).eval().to(device)
    prompt = _prompt(folder)
    lower = bool(settings.get("do_lower_case"))

    def encode(texts: list[str]) -> torch.Tensor:
        texts = [prompt + (text.lower() if lower else text) for text in texts]
        tokens = tokenizer(texts, padding=True, truncation=True, max_length=length, return_tensors="pt").to(device)
        states = model(**tokens).last_hidden_state  # (N, T, H)
        pooled: torch.Tensor = layers(pool(states, tokens["attention_mask"], ways))
        return pooled

    return SentenceEncoder(encode, tokenizer, length)


def pool(states: torch.Tensor, mask: torch.Tensor, ways: Sequence[str]) -> torch.Tensor:
    """(N, T, H) states and (N, T) mask to (N, H times the number of `ways`), padding left out."""
    weights = mask.unsqueeze(-1).to(states.dtype)
    number = weights.sum(1).clamp(min=1e-9)
    last = (mask * torch.arange(1, mask.shape[1] + 1, device=mask.device)).argmax(1)
    found = []
    for way in ways:
        if way == "cls":
            first = mask.argmax(1)  # the first token that is no padding
            found.append(states[torch.arange(len(states)), first])
        elif way == "max":
            found.append(states.masked_fill(weights == 0, -torch.inf).amax(1))
        elif way == "lasttoken":
            found.append(states[torch.arange(len(states)), last])
        elif way == "weightedmean":
            rising = weights * torch.arange(1, mask.shape[1] + 1, device=mask.device)[None, :, None]
            found.append((states * rising).sum(1) / rising.sum(1).clamp(min=1e-9))
        else:
            found.append((states * weights).sum(1) / (number if way == "mean" else number.sqrt()))
    return torch.cat(found, dim=-1)


def _poolings(file: Path) -> list[str]:
    """The ways to pool that 1_Pooling/config.json names. Raises `ConfigError` for none, or another."""
    config = _read(file)
    named = config.get("pooling_mode")
    names = [named] if isinstance(named, str) else list(named or ())
    names = names or [way for way, key in POOLINGS.items() if config.get(key)]
    if not names or any(name not in POOLINGS for name in names):
        raise ConfigError(f"{file} pools by {', '.join(names) or 'nothing'}; supported are {', '.join(POOLINGS)}")
    if config.get("include_prompt") is False:
        raise ConfigError(f"{file} leaves a prompt out of the pooling (include_prompt), which is not supported")
    return names


def _dense(folder: Path) -> nn.Module:
    """A linear layer with its activation. Raises `ConfigError` if it cannot be read."""
    config = _read(folder / MODEL_CONFIG)
    activation = str(config.get("activation_function", "torch.nn.modules.activation.Tanh")).rpartition(".")[2]
    if activation not in ACTIVATIONS:
        raise ConfigError(f"{folder} has the activation {activation}; supported are {', '.join(ACTIVATIONS)}")
    if not (folder / "model.safetensors").is_file():
        raise ConfigError(f"{folder} has no model.safetensors; convert its weights")
    layer = nn.Linear(int(config["in_features"]), int(config["out_features"]), bias=bool(config.get("bias", True)))
    layer.load_state_dict(
        {key.removeprefix("linear."): w for key, w in load_file(folder / "model.safetensors").items()}
    )
    return nn.Sequential(layer, ACTIVATIONS[activation]())


def _prompt(folder: Path) -> str:
    """The text before each sentence, where the folder has one by default."""
    file = folder / "config_sentence_transformers.json"
    config = _read(file) if file.is_file() else {}
    name = config.get("default_prompt_name")
    return "" if name is None else str((config.get("prompts") or {}).get(name, ""))


def _read(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file} cannot be read ({error}); copy the folder again from where it came from") from error
