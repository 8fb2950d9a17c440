"""Class names that a tokenizer cannot write are known before a training, and are part of what a report says."""

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from data_prep.spelling import changed_names, spelling_notes

TINY = Path(__file__).resolve().parents[2] / "train" / "assets" / "tiny_llava"


def test_the_small_model_changes_unknown_characters_and_spaces_around_punctuation():
    names = ["red fox", "Red Fox ", "snakes lizards", "2024 A320", "Käfer und Insekten", "T-shirt", "birds (wild)"]
    assert changed_names(TINY, names) == {
        "Käfer und Insekten": "<unk> und Insekten",
        "T-shirt": "T - shirt",
        "birds (wild)": "birds ( wild )",
    }


def test_the_note_counts_classes_and_items_and_names_the_next_step():
    (note,) = spelling_notes(TINY, {"red fox": 4, "Käfer": 5, "T-shirt": 2})
    assert (
        "cannot write 2 of 3 class names as they are ('Käfer' becomes '<unk>', 'T-shirt' becomes 'T - shirt')" in note
    )
    assert "about their 7 items can be right; rename these classes (option rename of image_folder), or take" in note
    assert not spelling_notes(TINY, {"red fox": 4})


def byte_level():
    vocabulary = {character: number for number, character in enumerate(pre_tokenizers.ByteLevel.alphabet())}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    return tokenizer


def with_byte_fallback():
    vocabulary = {"<unk>": 0, **{f"<0x{byte:02X}>": byte + 1 for byte in range(256)}}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], byte_fallback=True, unk_token="<unk>"))
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    return tokenizer


@pytest.mark.parametrize("make", [byte_level, with_byte_fallback])
def test_tokenizers_that_write_bytes_write_any_name(make, tmp_path):
    make().save(str(tmp_path / "tokenizer.json"))
    assert changed_names(tmp_path, ["Käfer (日本)", "T-shirt"]) == {}


def test_a_missing_or_damaged_tokenizer_is_left_to_who_loads_the_model(tmp_path):
    assert changed_names(tmp_path, ["Käfer"]) == {}
    for text in ("{", "[]", json.dumps({"model": {"type": "none"}})):
        (tmp_path / "tokenizer.json").write_text(text)
        assert changed_names(tmp_path, ["Käfer"]) == {}
