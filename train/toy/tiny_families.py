"""Randomly initialised tiny models of families other than LLaVA-1.5, with tokenizers of the same type.

    folder = write_tiny_family(Path("/tmp/blip"), "blip-2", WORDS)   # a folder that from_pretrained loads

Names: `llava_next` (LLaMA inside), `llava_next_mistral` (a sliding window), `llava_onevision`
(`train.toy.tiny_onevision`), `blip-2` (OPT and its byte-level BPE),
`instructblip` (LLaMA, and a BERT tokenizer for the Q-Former), `qwen2_5_vl` and `qwen3_vl` (`train.toy.tiny_qwen`),
`smolvlm` and `idefics3` (`train.toy.tiny_smolvlm`).
For tests, and to try a training or an evaluation without a download.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE, WordPiece
from tokenizers.pre_tokenizers import BertPreTokenizer, ByteLevel
from tokenizers.processors import TemplateProcessing
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2Processor,
    CLIPVisionConfig,
    InstructBlipConfig,
    InstructBlipForConditionalGeneration,
    InstructBlipProcessor,
    LlamaConfig,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextProcessor,
    MistralConfig,
    OPTConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil

from configs.errors import ConfigError
from train.toy.byte_level import learn_merges, pairs
from train.toy.model_files import draw_large_weights
from train.toy.random_models import SPECIAL_TOKENS, word_tokenizer
from train.toy.tiny_onevision import llava_onevision
from train.toy.tiny_qwen import qwen2_5_vl, qwen3_vl
from train.toy.tiny_smolvlm import idefics3, smolvlm

WINDOW = 96  # sliding window of `llava_next_mistral` in tokens: shorter than its longest prompts
SIDE, PATCH = 32, 8  # pixels
GRID = [[32, 64], [64, 32], [64, 64], [96, 32], [32, 96]]  # (height, width), the shapes of LLaVA-NeXT's
QUERIES = 6
OPT_SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")
BERT_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
LANGUAGE = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 320}
TOWER = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 2,
         "image_size": SIDE, "patch_size": PATCH}  # fmt: skip
QFORMER = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
           "vocab_size": 320, "max_position_embeddings": 96, "cross_attention_frequency": 1,
           "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}  # fmt: skip


def write_tiny_family(folder: Path, name: str, words: Sequence[str], *, seed: int = 0) -> Path:
    """Write model, tokenizer and processor called `name` into `folder`; its tokenizer knows `words`.

    Raises `ConfigError` for an unknown name.
    """
    if name not in BUILDERS:
        raise ConfigError(f"unknown family {name!r}; known: {', '.join(BUILDERS)}")
    torch.manual_seed(seed)
    model, processor = BUILDERS[name](words)
    draw_large_weights(model)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def _llava_next(words: Sequence[str], language: Any) -> tuple[PreTrainedModel, Any]:
    config = LlavaNextConfig(
        vision_config=CLIPVisionConfig(**TOWER, projection_dim=32),
        text_config=language,
        image_token_index=SPECIAL_TOKENS.index("<image>"),
        image_grid_pinpoints=GRID,
    )
    images = LlavaNextImageProcessorPil(
        size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}, image_grid_pinpoints=GRID
    )
    tokenizer = _words(("USER", ":", "ASSISTANT", "[", "]", "INST", "/", *words))
    processor = LlavaNextProcessor(images, tokenizer, PATCH, "default", num_additional_image_tokens=1)
    return LlavaNextForConditionalGeneration(config), processor


def _with_llama(words: Sequence[str]) -> tuple[PreTrainedModel, Any]:
    return _llava_next(words, LlamaConfig(**LANGUAGE, intermediate_size=96, max_position_embeddings=512))


def _with_mistral(words: Sequence[str]) -> tuple[PreTrainedModel, Any]:
    sizes = {**LANGUAGE, "num_key_value_heads": 2, "intermediate_size": 96, "max_position_embeddings": 512}
    return _llava_next(words, MistralConfig(**sizes, sliding_window=WINDOW))


def _blip2(words: Sequence[str]) -> tuple[PreTrainedModel, Any]:
    tokenizer = byte_level_tokenizer(words)
    language = OPTConfig(
        **LANGUAGE, ffn_dim=96, word_embed_proj_dim=48, max_position_embeddings=512, dropout=0.0,
        bos_token_id=2, pad_token_id=1, eos_token_id=tokenizer("\n", add_special_tokens=False)["input_ids"][0],
    )  # fmt: skip
    config = Blip2Config(
        vision_config=TOWER, qformer_config=QFORMER, text_config=language, num_query_tokens=QUERIES,
        image_token_index=len(tokenizer),
    )  # fmt: skip
    processor = Blip2Processor(_squash(), tokenizer, QUERIES)
    return Blip2ForConditionalGeneration(config), processor


def _instructblip(words: Sequence[str]) -> tuple[PreTrainedModel, Any]:
    config = InstructBlipConfig(
        vision_config=TOWER, qformer_config=QFORMER, num_query_tokens=QUERIES,
        text_config=LlamaConfig(**LANGUAGE, intermediate_size=96, max_position_embeddings=512),
        image_token_index=SPECIAL_TOKENS.index("<image>"),
    )  # fmt: skip
    processor = InstructBlipProcessor(_squash(), _words(words), bert_tokenizer(words), QUERIES)
    return InstructBlipForConditionalGeneration(config), processor


def _squash() -> BlipImageProcessorPil:
    return BlipImageProcessorPil(size={"height": SIDE, "width": SIDE})


def _words(words: Sequence[str]) -> PreTrainedTokenizerFast:
    """The word tokenizer, with `<s>` before every text as in LLaMA's."""
    tokenizer = word_tokenizer(("\n", "?", ".", *words))
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return tokenizer


def byte_level_tokenizer(words: Sequence[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE like OPT's: `</s>` before every text; a word's first token contains the space before it."""
    backend = Tokenizer(BPE(unk_token="<unk>"))
    backend.pre_tokenizer = ByteLevel(add_prefix_space=False)
    backend.decoder = ByteLevelDecoder()
    learn_merges(backend, pairs(words), LANGUAGE["vocab_size"] - 1, OPT_SPECIAL)
    backend.post_processor = TemplateProcessing(single="</s> $A", special_tokens=[("</s>", 2)])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="</s>", eos_token="</s>", unk_token="<unk>", pad_token="<pad>"
    )


def bert_tokenizer(words: Sequence[str]) -> PreTrainedTokenizerFast:
    """Word pieces between `[CLS]` and `[SEP]`, including letters, so that every word can be tokenized."""
    letters = [chr(code) for code in range(33, 127)]
    pieces = dict.fromkeys((*BERT_SPECIAL, *letters, *(f"##{letter}" for letter in letters), *words))
    backend = Tokenizer(WordPiece({piece: number for number, piece in enumerate(pieces)}, unk_token="[UNK]"))
    backend.pre_tokenizer = BertPreTokenizer()
    backend.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]",
        bos_token="[CLS]", eos_token="[SEP]",
    )  # fmt: skip


BUILDERS: dict[str, Callable[[Sequence[str]], tuple[PreTrainedModel, Any]]] = {
    "llava_next": _with_llama,
    "llava_next_mistral": _with_mistral,
    "llava_onevision": llava_onevision,
    "blip-2": _blip2,
    "instructblip": _instructblip,
    "qwen2_5_vl": qwen2_5_vl,
    "qwen3_vl": qwen3_vl,
    "smolvlm": smolvlm,
    "idefics3": idefics3,
}
