"""Makes `tiny_sentencepiece/`: a SentencePiece model in the three forms in which LLaMA tokenizers are published.

    python tests/train/chat/sentencepiece_fixture.py      with sentencepiece and transformers 4.37.2 installed

`texts.json` holds texts with the ids of the slow `LlamaTokenizer` of transformers 4.37.2 for `legacy` true and false,
and those of the sentencepiece package. Nothing of it comes from the code under test.
"""

import json
import random
import shutil
from pathlib import Path

import sentencepiece
from transformers import LlamaTokenizer, LlamaTokenizerFast
from transformers.utils import sentencepiece_model_pb2_new

HERE = Path(__file__).with_name("tiny_sentencepiece")
CORPUS = """A chat between a curious user and an artificial intelligence assistant.
The assistant gives helpful, detailed, and polite answers to the user's questions.
USER: What type of object is in this photo? ASSISTANT: a fire engine
USER: What is the animal in the picture, and what does it eat? ASSISTANT: a red panda; it eats bamboo
def area(width, height):
    if width < 0:
        raise ValueError(width)
    return width * height
| class  | images |
|--------|--------|
| tench  |    500 |
| goldfish |  500 |
A photo of a street with cars, trucks and a traffic light; a café on the corner."""
SNIPPETS = [
    " ", "  ", "    ", "\n", "\n\n", "\t", "</s>", "</s>USER: ", "<s>", "<unk>", "USER:", " ASSISTANT: ", "if",
    "    if x",
    "a fire engine", "ValueError", "é", "中", "🐕", "▁", ".", "|", "  |", "tench", "What is it?", "\nWhat",
]  # fmt: skip


def main() -> None:
    """Train the model, write the three folders and the ids of generated texts."""
    shutil.rmtree(HERE, ignore_errors=True)
    for name in ("legacy_true", "legacy_false", "sentencepiece_only"):
        (HERE / name).mkdir(parents=True)
    model = HERE / "sentencepiece_only" / "tokenizer.model"
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS.splitlines() * 20),
        model_prefix=str(model.with_suffix("")),
        model_type="bpe",
        vocab_size=480,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True,
        split_digits=True,
        minloglevel=2,
    )
    model.with_suffix(".vocab").unlink()
    _spaces_last(model)
    for legacy in (True, False):
        folder = HERE / f"legacy_{str(legacy).lower()}"
        LlamaTokenizerFast(vocab_file=str(model), legacy=legacy).save_pretrained(folder)
        config = json.loads((folder / "tokenizer_config.json").read_text())
        (folder / "special_tokens_map.json").unlink()
        (folder / "tokenizer_config.json").write_text(json.dumps({**config, "legacy": legacy}, indent=2) + "\n")
        if not legacy:
            (folder / "tokenizer.model").unlink(missing_ok=True)
    shutil.copy(HERE / "legacy_false" / "tokenizer_config.json", model.parent)
    rng = random.Random(0)
    texts = ["".join(rng.choice(SNIPPETS) for _ in range(rng.randint(1, 9))) for _ in range(200)]
    slow = {
        str(legacy).lower(): LlamaTokenizer(str(model), legacy=legacy, add_bos_token=False) for legacy in (True, False)
    }
    pieces = sentencepiece.SentencePieceProcessor(str(model))
    rows = [
        {
            "text": text,
            "sentencepiece": pieces.encode(text),
            **{f"legacy_{k}": t(text).input_ids for k, t in slow.items()},
        }
        for text in texts
    ]
    (HERE / "texts.json").write_text(json.dumps(rows, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")


def _spaces_last(model: Path) -> None:
    """Give pieces of spaces alone the score -1e9, as LLaMA's vocabulary has it."""
    proto = sentencepiece_model_pb2_new.ModelProto()
    proto.ParseFromString(model.read_bytes())
    for piece in proto.pieces:
        if len(piece.piece) > 1 and not piece.piece.strip("▁"):
            piece.score = -1e9
    model.write_bytes(proto.SerializeToString())


if __name__ == "__main__":
    main()
