"""Folders of published models without their weights: config.json and processor as published, and a small tokenizer.

`published/MODEL.json` holds the files of Hugging Face's `…/MODEL`, without settings that this program never reads, and
the number of parameters of its weights. The tokenizer spells texts by bytes; its special tokens have the published ids.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from train.models.instructblip import QFORMER_TOKENIZER
from train.toy import tiny_onevision, tiny_qwen, tiny_smolvlm
from train.toy.tiny_families import bert_tokenizer

FOLDER = Path(__file__).parent / "published"
MODELS = {file.stem: json.loads(file.read_text()) for file in sorted(FOLDER.glob("*.json"))}
LLAMA = {"<unk>": 0, "<s>": 1, "</s>": 2}
OPT = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "Ċ": 50118}  # Ċ: a line break
QWEN = {name: 151643 + number for number, name in enumerate(("<|endoftext|>", "<|im_start|>", "<|im_end|>"))}
VISION = {"<|vision_start|>": 151652, "<|vision_end|>": 151653, "<|vision_pad|>": 151654, "<|image_pad|>": 151655,
          "<|video_pad|>": 151656}  # fmt: skip
TILES = {f"<row_{n // 6 + 1}_col_{n % 6 + 1}>": 49153 + n for n in range(36)}
SMOLVLM = {"<|endoftext|>": 0, "<|im_start|>": 1, "<|im_end|>": 2, "<global-img>": 49152, **TILES,
           "<fake_token_around_image>": 49189, "<end_of_utterance>": 49279}  # fmt: skip


def write_published(model: str, folder: Path) -> Path:
    """Write the folder of `model`."""
    folder.mkdir(parents=True)
    files = {name: content for name, content in MODELS[model].items() if name.endswith(".json")}
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    _tokenizer(files["config.json"]).save_pretrained(folder)
    if files["config.json"]["model_type"] == "instructblip":
        bert_tokenizer(()).save_pretrained(folder / QFORMER_TOKENIZER)
    return folder


def _tokenizer(config: Mapping[str, Any]) -> PreTrainedTokenizerFast:
    kind = config["model_type"]
    image = config.get("image_token_index") or config.get("image_token_id")
    if kind.startswith("qwen"):
        template = tiny_qwen.TURNS.replace("<<SYSTEM>>", tiny_qwen.SYSTEM if kind == "qwen2_5_vl" else "")
        return _by_bytes(QWEN | VISION, {"eos": "<|im_end|>", "pad": "<|endoftext|>"}, template)
    if kind == "llava_onevision":
        return _by_bytes(QWEN | {"<image>": image}, {"eos": "<|im_end|>", "pad": "<|endoftext|>"}, tiny_onevision.TURNS)
    if kind == "smolvlm":
        ends = {"bos": "<|im_start|>", "eos": "<end_of_utterance>", "pad": "<|im_end|>"}
        return _by_bytes(SMOLVLM | {"<image>": image}, ends, tiny_smolvlm.TURNS)
    if kind == "blip-2":
        return _by_bytes(OPT | {"<image>": image}, {"bos": "</s>", "eos": "</s>", "pad": "<pad>"}, start=True)
    return _by_bytes(LLAMA | {"<image>": image}, {"bos": "<s>", "eos": "</s>", "pad": "<unk>"}, start=True)


def _by_bytes(
    tokens: Mapping[str, int], named: Mapping[str, str], template: str | None = None, *, start: bool = False
) -> PreTrainedTokenizerFast:
    """A byte a token, and `tokens` by their ids; `named` says which of them begins, ends and pads a text."""
    letters = [letter for letter in sorted(ByteLevel.alphabet()) if letter not in tokens]
    backend = Tokenizer(BPE(vocab={letter: 100 + n for n, letter in enumerate(letters)} | dict(tokens), merges=[]))
    backend.pre_tokenizer = ByteLevel(add_prefix_space=False)
    backend.decoder = ByteLevelDecoder()
    backend.add_special_tokens([token for token in tokens if len(token) > 1])
    if start:
        begin = named["bos"]
        backend.post_processor = TemplateProcessing(single=f"{begin} $A", special_tokens=[(begin, tokens[begin])])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, chat_template=template, **{f"{name}_token": token for name, token in named.items()}
    )
