"""A language model to put behind a vision tower: a LLaVA's, or a Llama, Mistral or Qwen2 from a folder or a GGUF file.

    language = read_language(Path("SmolLM2-135M-Instruct.Q4_1.gguf"))
    add_image_token(language)           # <image>, with a row in the embeddings; the tokenizer stays as it is otherwise

GGUF weights are de-quantized by transformers, which needs the package gguf.
"""

import json
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, LlavaForConditionalGeneration

from configs.errors import ConfigError, first_line
from configs.run_dir import MODEL_CONFIG
from data_prep.sample import IMAGE_PLACEHOLDER
from train.chat.tokenizer import load_tokenizer
from train.models.checked_loading import FAILURES, load_checked

LANGUAGES = ("llama", "mistral", "qwen2")
"""Types of language models that a LLaVA can have here."""
PLAIN_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'assistant' %} {{ message['content'] + eos_token }}"
    "{% elif message['role'] == 'user' %}USER: {{ message['content'] }} ASSISTANT:{% else %}{{ message['content'] }} "
    "{% endif %}{% endfor %}"
)
"""For a language model without a chat template: LLaVA's, with the model's own end token."""
FLATTENED = (
    "{%- set flat = namespace(messages=[]) -%}"
    "{%- for message in messages -%}{%- set text = namespace(content='') -%}"
    "{%- if message['content'] is string -%}{%- set text.content = message['content'] -%}{%- else -%}"
    "{%- for part in message['content'] -%}"
    "{%- set text.content = text.content + ('<image>\n' if part['type'] == 'image' else part['text']) -%}"
    "{%- endfor -%}{%- endif -%}"
    "{%- set flat.messages = flat.messages + [{'role': message['role'], 'content': text.content}] -%}"
    "{%- endfor -%}{%- set messages = flat.messages -%}"
)
"""Before a language model's template: content given as parts, as for images, becomes the text that it takes."""


@dataclass
class Language:
    """A causal language model and its tokenizer."""

    model: Any
    tokenizer: Any


def read_language(place: Path) -> Language:
    """The language model in a folder of a LLaVA or a language model, or in a GGUF file (or a folder with one).

    Raises `ConfigError` for anything else, a type that is not one of `LANGUAGES`, and GGUF without the package gguf.
    """
    file = _gguf_file(place)
    if file is not None:
        return _from_gguf(file)
    config = place / MODEL_CONFIG
    kind = json.loads(config.read_text(encoding="utf-8-sig")).get("model_type") if config.is_file() else None
    if kind == "llava":
        return Language(_language_of(place), load_tokenizer(place))
    if kind not in LANGUAGES:
        found = f"a {kind}" if kind else "no model"
        raise ConfigError(
            f"{place} contains {found}; give a llava (train/assets/tiny_llava is one) or a language model of type "
            f"{', '.join(LANGUAGES)} as a folder or a .gguf file"
        )
    return Language(load_checked(AutoModelForCausalLM, place, dtype=torch.float32), load_tokenizer(place))


def add_image_token(language: Language) -> None:
    """Give the tokenizer `<image>`, and the embeddings a row for it where they have none: the mean of the others.

    A pad token is named, the end token, where the tokenizer has none. Nothing else changes. Raises `ConfigError` for a
    tokenizer without an end token.
    """
    tokenizer, model = language.tokenizer, language.model
    if tokenizer.eos_token is None:
        raise ConfigError("the language model's tokenizer names no eos_token; name it in tokenizer_config.json")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    known = IMAGE_PLACEHOLDER in tokenizer.get_vocab()
    if not known:
        tokenizer.add_tokens([IMAGE_PLACEHOLDER], special_tokens=True)
    number = int(tokenizer.convert_tokens_to_ids(IMAGE_PLACEHOLDER))
    rows = model.get_input_embeddings().weight.shape[0]
    if number >= rows:
        model.resize_token_embeddings(number + 1, mean_resizing=False)
    if not known:
        with torch.no_grad():
            for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
                layer.weight[number:] = layer.weight[: min(number, rows)].mean(0)
    template = tokenizer.chat_template or PLAIN_TEMPLATE
    if isinstance(template, dict):
        template = template.get("default", PLAIN_TEMPLATE)
    if not known:
        tokenizer.chat_template = FLATTENED + template


def _language_of(folder: Path) -> Any:
    """The language model of a LLaVA, as a model by itself."""
    base = load_checked(LlavaForConditionalGeneration, folder, dtype=torch.float32)
    text = base.config.text_config
    if text.model_type not in LANGUAGES:
        raise ConfigError(f"{folder} has a {text.model_type} inside; supported: {', '.join(LANGUAGES)}")
    model = AutoModelForCausalLM.from_config(text, dtype=torch.float32)
    model.model.load_state_dict(base.model.language_model.state_dict())
    if not text.tie_word_embeddings:
        model.lm_head.load_state_dict(base.lm_head.state_dict())
    return model


def _gguf_file(place: Path) -> Path | None:
    """The GGUF file that `place` is or has, or None. Raises `ConfigError` for a folder with several."""
    if place.suffix == ".gguf":
        if not place.is_file():
            raise ConfigError(f"{place} is not there; give a .gguf file or a model folder")
        return place
    if not place.is_dir() or (place / MODEL_CONFIG).is_file():
        return None
    files = sorted(place.glob("*.gguf"))
    if len(files) > 1:
        raise ConfigError(
            f"{place} has {len(files)} GGUF files; name one: {', '.join(file.name for file in files[:4])}"
        )
    return files[0] if files else None


def _from_gguf(file: Path) -> Language:
    if find_spec("gguf") is None:
        raise ConfigError(f"{file} holds GGUF weights, for which pip install 'vlm-classify[gguf]' is needed")
    names = {"gguf_file": file.name, "local_files_only": True}
    try:
        config = AutoConfig.from_pretrained(file.parent, **names)
        if config.model_type not in LANGUAGES:
            raise ConfigError(f"{file} holds a {config.model_type}; supported: {', '.join(LANGUAGES)}")
        tokenizer = AutoTokenizer.from_pretrained(file.parent, **names)
    except FAILURES as error:
        raise ConfigError(f"{file} cannot be loaded: {first_line(error)}") from error
    model = load_checked(AutoModelForCausalLM, file.parent, gguf_file=file.name, dtype=torch.float32)
    if hasattr(model.config, "quantization_config"):  # the weights are no longer quantized
        del model.config.quantization_config
    return Language(model, tokenizer)
