r"""LLaMA tokenizers with the ids that SentencePiece gives, which transformers 5 changes when it loads the files.

transformers 5 rebuilds a `LlamaTokenizer` on load. From a `tokenizer.model` alone it orders the merges by token id, so
that runs of spaces are merged first ("    if" becomes "▁▁▁▁ if" where SentencePiece gives "▁▁▁ ▁if"), and its
pre-tokenizer drops a space with which a text begins. This module takes vocabulary, merges and normalizer from the
folder's own files: `tokenizer.json` unchanged, or the pieces' scores in `tokenizer.model`.

A whole text is normalized as in the fast tokenizer of transformers 4.40 (the environment of the paper's authors): a
space marker before the text and after each special token, for both values of the flag `legacy`. So "<image>\n" is
followed by the two tokens "▁", "<0x0A>" (29871, 13 in LLaMA's vocabulary), as transformers' tests of LLaVA expect;
the slow tokenizer gives "<0x0A>" alone when `legacy` is false (seen with transformers 4.40.0).
"""

import json
import logging
from pathlib import Path

from sentencepiece import SentencePieceProcessor
from tokenizers import Tokenizer, models, normalizers
from transformers import PreTrainedTokenizerBase
from transformers.utils import cached_file

from train.chat.llama_ids import MARK, UNKNOWN, LlamaIds, is_llama_kind

HARD_STRINGS = (
    "    if x:\n        return y",
    " leading space",
    "two  spaces,\ttab\n\n   three",
    "| a |  b  |\n|---|-----|",
    "naïve café 中文 🐕",
    "USER: what? ASSISTANT: tench</s>USER: and",
)
log = logging.getLogger(__name__)


def restore(tokenizer: PreTrainedTokenizerBase, files: dict[str, Path]) -> None:
    """Give a loaded LLaMA tokenizer the merges and normalizer of its files, and its `legacy` flag. In place.

    `files` maps the names `tokenizer.json`, `tokenizer.model` and `tokenizer_config.json` to those that exist. Other
    tokenizers are left alone. Logs a warning where a `tokenizer.model` and the result disagree on `HARD_STRINGS`.
    """
    if not is_llama_kind(tokenizer):
        return
    tokenizer.legacy = _legacy(files.get("tokenizer_config.json"))
    backend = tokenizer.backend_tokenizer
    if "tokenizer.json" in files:
        raw = Tokenizer.from_file(str(files["tokenizer.json"]))
        backend.model, backend.normalizer, backend.pre_tokenizer = raw.model, raw.normalizer, raw.pre_tokenizer
    if backend.normalizer is None:  # no tokenizer.json, or one that transformers 5 wrote
        backend.normalizer = normalizers.Sequence([normalizers.Prepend(MARK), normalizers.Replace(" ", MARK)])
        backend.pre_tokenizer = None
    if "tokenizer.model" not in files:
        if _spaces_first(tokenizer):
            log.warning(
                "tokenizer.json merges runs of spaces first, as transformers 5 writes it from a SentencePiece file: "
                "the ids of several spaces in a row differ; put the original tokenizer.model into the same folder"
            )
        return
    pieces = SentencePieceProcessor(str(files["tokenizer.model"]))
    if "tokenizer.json" not in files or _differences(tokenizer, pieces):
        backend.model = bpe_of(pieces)
    if different := _differences(tokenizer, pieces):
        log.warning(
            "tokenizer.model and the loaded tokenizer give other ids for %s; training and evaluation use the latter",
            ", ".join(map(repr, different)),
        )


def tokenizer_files(place: str | Path) -> dict[str, Path]:
    """Name to path of the tokenizer files that a folder or hub id has."""
    found = {}
    for name in ("tokenizer.json", "tokenizer.model", "tokenizer_config.json"):
        file = cached_file(
            str(place),
            name,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
            _raise_exceptions_for_gated_repo=False,
        )
        if file is not None:
            found[name] = Path(file)
    return found


def bpe_of(pieces: SentencePieceProcessor) -> models.BPE:
    """SentencePiece's BPE as a `tokenizers` model: merges ordered by the score of the piece that they make.

    Among equal scores (runs of spaces) the longer left part comes first; SentencePiece takes the leftmost pair, which
    gives the same pieces for every text tried (the tests compare on generated texts).
    """
    size = pieces.get_piece_size()
    vocabulary = {pieces.id_to_piece(number): number for number in range(size)}
    merges = []
    for piece, number in vocabulary.items():
        score = pieces.get_score(number)
        for cut in range(1, len(piece)):
            left, right = piece[:cut], piece[cut:]
            if left in vocabulary and right in vocabulary:
                merges.append((-score, -len(left), -len(right), left, right))
    merges.sort()
    ordered = [(left, right) for *_, left, right in merges]
    unknown = pieces.id_to_piece(pieces.unk_id())
    return models.BPE(vocab=vocabulary, merges=ordered, unk_token=unknown, fuse_unk=True, byte_fallback=True)


def _legacy(config: Path | None) -> bool:
    """The folder's flag; absent means legacy, as in transformers 4.37."""
    values = json.loads(config.read_text(encoding="utf-8-sig")) if config is not None else {}
    return values.get("legacy") is not False


def _spaces_first(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether these are the pieces of LLaMA 1 and 2, whose runs of spaces have the lowest score, merged first."""
    vocabulary = tokenizer.get_vocab()
    if [vocabulary.get(piece) for piece in (2 * MARK, MARK + "t", "er")] != [259, 260, 261]:
        return False
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    return "".join(merges[0]).replace(" ", "") == 2 * MARK


def _differences(tokenizer: PreTrainedTokenizerBase, pieces: SentencePieceProcessor) -> list[str]:
    """The hard strings whose ids are not SentencePiece's (special tokens in them count as SentencePiece text)."""
    ids = LlamaIds(tokenizer.backend_tokenizer.model, {UNKNOWN: pieces.unk_id()}, legacy=True)
    return [text for text in HARD_STRINGS if ids.ids(text) != pieces.encode(text)]
