"""LLaMA tokenizers give the ids of LLaVA's training environment, in each form they are published in."""

import json
import logging
import shutil
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from data_prep.sample import Turn, parse_turns
from train.chat.llama_ids import LlamaIds, llava_targets
from train.chat.render import ChatRenderer
from train.chat.sentencepiece_vocab import HARD_STRINGS
from train.chat.tokenizer import load_tokenizer

TINY = Path(__file__).with_name("tiny_sentencepiece")
TEXTS = json.loads((TINY / "texts.json").read_text(encoding="utf-8"))
SHARED = Path(__file__).resolve().parents[4] / "shared" / "data"
FORMS = {"legacy_true": "legacy_true", "legacy_false": "legacy_false", "sentencepiece_only": "legacy_false"}
PUBLISHED = {
    "tokenizer_legacy_true": "legacy_true",
    "tokenizer_legacy_true/tokenizer.json": "legacy_true",
    "tokenizer_legacy_true/tokenizer.model": "legacy_true",
    "tokenizer_legacy_false": "legacy_false",
    "tokenizer_sentencepiece_only": "legacy_false",
}


@pytest.mark.parametrize("form", FORMS)
def test_ids_are_those_of_the_slow_tokenizer_of_transformers_4_37(form):
    ids = LlamaIds.of(load_tokenizer(TINY / form))
    assert ids is not None
    assert len(TEXTS) == 200
    for row in TEXTS:
        assert ids.ids(row["text"]) == row[FORMS[form]], row["text"]


def test_the_two_flags_give_other_ids_after_a_special_token():
    differ = [row for row in TEXTS if row["legacy_true"] != row["legacy_false"]]
    assert len(differ) > 20


def test_without_special_tokens_the_loaded_tokenizer_gives_sentencepieces_ids():
    plain = [row for row in TEXTS if not any(token in row["text"] for token in ("<s>", "</s>", "<unk>"))]
    assert len(plain) > 50
    for form in FORMS:
        tokenizer = load_tokenizer(TINY / form)
        for row in plain:
            assert tokenizer(row["text"], add_special_tokens=False)["input_ids"] == row["sentencepiece"], row["text"]


def test_transformers_alone_gives_other_ids_so_restoring_is_needed():
    tokenizer = AutoTokenizer.from_pretrained(TINY / "sentencepiece_only")
    wrong = [
        row for row in TEXTS if tokenizer(row["text"], add_special_tokens=False)["input_ids"] != row["legacy_false"]
    ]
    assert wrong


@pytest.mark.parametrize("form", FORMS)
def test_a_newline_after_a_special_token_has_a_word_mark_before_it_as_in_the_authors_environment(form):
    tokenizer = load_tokenizer(TINY / form)
    tokenizer.add_tokens(["<image>"], special_tokens=True)
    tokens = tokenizer.tokenize("USER: <image>\nWhat")
    assert tokens[tokens.index("<image>") + 1 :][:2] == ["▁", "<0x0A>"]


def test_a_vocabulary_and_a_sentencepiece_file_that_disagree_are_named(tmp_path, caplog):
    shutil.copytree(TINY / "legacy_true", tmp_path / "both")
    file = tmp_path / "both" / "tokenizer.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    content["model"]["merges"] = content["model"]["merges"][::-1]
    file.write_text(json.dumps(content), encoding="utf-8")
    repaired = LlamaIds.of(load_tokenizer(tmp_path / "both"))
    assert repaired is not None
    assert all(repaired.ids(row["text"]) == row["legacy_true"] for row in TEXTS)
    assert not caplog.records
    (tmp_path / "both" / "tokenizer.model").unlink()
    reversed_merges = LlamaIds.of(load_tokenizer(tmp_path / "both"))
    assert reversed_merges is not None
    assert any(reversed_merges.ids(text) != repaired.ids(text) for text in HARD_STRINGS), "the file's order counts"


@pytest.mark.slow
@pytest.mark.skipif(not (SHARED / "llama2_tokenizer").is_dir(), reason="the LLaMA tokenizer is not here")
def test_a_llama_file_whose_spaces_are_merged_first_is_warned_of(caplog):
    with caplog.at_level(logging.WARNING):
        load_tokenizer(SHARED / "llama2_tokenizer" / "tokenizer.json")
    assert "merges runs of spaces first" in caplog.text
    caplog.clear()
    load_tokenizer(SHARED / "tokenizer_legacy_false")
    load_tokenizer(SHARED / "llama2_tokenizer")  # its tokenizer.model repairs it
    assert not caplog.records


@pytest.mark.slow
@pytest.mark.parametrize("place", PUBLISHED)
@pytest.mark.skipif(not (SHARED / "tokenizer_legacy_true").is_dir(), reason="the LLaMA tokenizers are not here")
def test_llava_ids_and_labels_are_those_of_llavas_own_code(place):
    renderer = ChatRenderer(load_tokenizer(SHARED / place))
    examples = json.loads((SHARED / f"llava_v1_token_examples_{PUBLISHED[place]}.json").read_text())
    assert len(examples) == 19
    for example in examples:
        rendered = renderer.render(parse_turns(example["conversations"]), max_length=2048)
        assert rendered.input_ids == example["input_ids"]
        assert rendered.labels == example["labels"]


def llava_preprocess(text: str, ids: LlamaIds, limit: int) -> list[bool]:
    """LLaVA's masking, slow and obvious, of a text-only conversation: its steps one by one on a list."""
    tokens = [1, *ids.ids(text)][:limit]
    target: list[int | None] = list(tokens)
    position = 1
    target[:1] = [None]
    for number, part in enumerate(text.split("</s>")):
        if part == "":
            break
        halves = part.split(" ASSISTANT: ")
        if len(halves) != 2:
            break
        length = len([1, *ids.ids(part)])
        instruction = len([1, *ids.ids(halves[0] + " ASSISTANT: ")]) - 2
        if number != 0 and not ids.legacy:
            length, instruction = length - 1, instruction - 1
        for index in range(position, min(position + instruction, len(target))):
            target[index] = None
        position += length
    for index in range(position, len(target)):
        target[index] = None
    if position < limit and position != len(tokens):
        return [False] * len(tokens)
    return [token is not None for token in target]


CONVERSATIONS = {
    "one round": (("What is it?", "a fire engine"),),
    "three rounds": (("What is it?", "a fire engine"), ("And here?", "a red panda; it eats"), ("Both?", "| a | b |")),
    "an answer that ends in a space": (("What is it?", "tench "), ("And?", "    if x")),
    "an answer that names the assistant": (("Who?", "I am USER: x ASSISTANT: y"), ("And?", "z")),
    "an empty answer": (("Who?", ""), ("And?", "tench")),
}


@pytest.mark.parametrize("limit", [2048, 40])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", CONVERSATIONS)
def test_targets_are_those_of_llavas_steps_one_by_one(name, form, limit):
    renderer = ChatRenderer(load_tokenizer(TINY / form), system_prompt="none")
    turns = [Turn(s, t) for pair in CONVERSATIONS[name] for s, t in zip(("human", "gpt"), pair, strict=True)]
    text = "".join(f"USER: {question} ASSISTANT: {answer}</s>" for question, answer in CONVERSATIONS[name])
    rendered = renderer.render(turns, max_length=limit)
    assert renderer.llama_tokenizer is not None
    assert rendered.input_ids == [1, *renderer.llama_tokenizer.ids(text)][:limit]
    assert rendered.supervised == llava_preprocess(text, renderer.llama_tokenizer, limit)


TWO_ROUNDS = [1, 10, 11, 12, 20, 2, 13, 14, 15, 21, 2]  # <s> question answer </s> question answer </s>


def test_answers_and_their_ends_are_supervised_where_the_count_fits():
    # a round counted alone: <s>, 3 tokens of the question, the answer; its instruction has a word mark in its place
    on = llava_targets(TWO_ROUNDS, [(5, 5), (5, 5)], legacy=True, max_length=2048, unknown=0)
    assert [token for token, lit in zip(TWO_ROUNDS, on, strict=True) if lit] == [20, 2, 21, 2]


def test_without_legacy_a_later_round_counts_one_token_less():
    on = llava_targets(TWO_ROUNDS, [(5, 5), (6, 6)], legacy=False, max_length=2048, unknown=0)
    assert [token for token, lit in zip(TWO_ROUNDS, on, strict=True) if lit] == [20, 2, 21, 2]


def test_a_count_that_does_not_end_at_the_last_token_leaves_nothing_supervised_unless_the_text_was_cut():
    for second, legacy in (((6, 5), True), ((5, 5), False), (None, True)):
        assert not any(llava_targets(TWO_ROUNDS, [(5, 5), second], legacy=legacy, max_length=2048, unknown=0))
    cut = llava_targets(TWO_ROUNDS[:8], [(5, 5), (5, 5)], legacy=True, max_length=8, unknown=0)
    assert [token for token, lit in zip(TWO_ROUNDS, cut, strict=False) if lit] == [20, 2]
