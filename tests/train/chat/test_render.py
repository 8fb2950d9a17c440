"""The renderer against LLaVA's own outputs, and against what each token is for."""

import json
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from configs.errors import ConfigError, DataError
from configs.protocol import ProtocolConfig
from data_prep.sample import Turn, parse_turns
from train.chat.conversation import IGNORE_INDEX, IMAGE_INDEX, TokenizedConversation, expand_image, highlight_targets
from train.chat.render import ChatRenderer
from train.chat.templates import CHAT_TEMPLATES, VICUNA_V1
from train.chat.tokenizer import load_tokenizer
from train.tools.render_conversations import main
from train.toy.random_models import word_tokenizer
from train.toy.tiny_families import byte_level_tokenizer

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data"
LLAMA, EXAMPLES = SHARED / "llama2_tokenizer", SHARED / "llava_v1_token_examples.json"
needs_llama = pytest.mark.skipif(not EXAMPLES.is_file(), reason="the LLaMA tokenizer and LLaVA's examples are not here")

QUESTION = Turn("human", "<image>\nWhat is it ?")
ANSWER = Turn("gpt", "a red star")


@pytest.fixture
def tokenizer():
    return word_tokenizer([*"USER : ASSISTANT What is it ? a red star and here blue moon".split(), "\n"])


def words(tokenizer, ids: list[int]) -> list[str]:
    return ["<IMG>" if i == IMAGE_INDEX else tokenizer.convert_ids_to_tokens(i) for i in ids]


@pytest.mark.slow
@needs_llama
@pytest.mark.parametrize("tokenizer_file", ["", "tokenizer.json", "tokenizer.model"])
def test_llava_markup_gives_llavas_own_ids_and_labels(tokenizer_file):
    renderer = ChatRenderer(load_tokenizer(LLAMA / tokenizer_file))
    examples = json.loads(EXAMPLES.read_text())
    for example in examples:
        rendered = renderer.render(parse_turns(example["conversations"]), max_length=2048)
        assert rendered.input_ids == example["input_ids"]
        assert rendered.labels == example["labels"]
    assert any(len(example["input_ids"]) == 2048 for example in examples), "truncation was exercised"


@pytest.mark.slow
@needs_llama
def test_hf_markup_gives_the_ids_of_one_call_of_the_tokenizer():
    tokenizer = load_tokenizer(LLAMA)
    tokenizer.add_tokens(["<image>"], special_tokens=True)
    renderer = ChatRenderer(tokenizer, template="hf", system_prompt="none")
    turns = (QUESTION, ANSWER, Turn("human", "And here?"), Turn("gpt", "a blue moon"))
    text = "USER: <image>\nWhat is it ? ASSISTANT: a red star</s>USER: And here? ASSISTANT: a blue moon</s>"
    image = tokenizer.convert_tokens_to_ids("<image>")
    expected = [1, *(IMAGE_INDEX if i == image else i for i in tokenizer(text, add_special_tokens=False).input_ids)]
    rendered = renderer.render(turns)
    assert rendered.input_ids == expected
    not_legacy = load_tokenizer(Path(__file__).with_name("tiny_sentencepiece") / "legacy_false")
    not_legacy.add_tokens(["<image>"], special_tokens=True)
    hf, llava = (ChatRenderer(not_legacy, name, "none").render(turns).input_ids for name in ("hf", "llava"))
    assert hf != llava, "without legacy the text after </s> has a word mark in one and none in the other"
    green = tokenizer.decode([i for i, on in zip(rendered.input_ids, rendered.supervised, strict=True) if on])
    assert green.replace(" ", "") == "aredstar</s>abluemoon</s>"


SPOKEN = {
    "hf_newline": "USER: <image>\nWhat is it ?\nASSISTANT:",
    "mistral": "[INST] <image>\nWhat is it ? [/INST]",
    "mistral_tight": "[INST] <image>\nWhat is it ?[/INST]",
    "question": "Question: What is it ? Answer:",
    "plain": "What is it ?",
}


@pytest.mark.slow
@pytest.mark.parametrize("template", SPOKEN)
@pytest.mark.parametrize("kind", [pytest.param("llama", marks=needs_llama), "byte_level"])
def test_a_chat_templates_question_and_answer_have_the_ids_of_one_call_of_the_tokenizer(template, kind):
    tokenizer = load_tokenizer(LLAMA) if kind == "llama" else byte_level_tokenizer("What is it a red star <s>".split())
    tokenizer.add_tokens(["<image>"], special_tokens=True)
    image = tokenizer.convert_tokens_to_ids("<image>")
    renderer = ChatRenderer(tokenizer, template, "none", end=7)
    text, first = SPOKEN[template], renderer.template.image_before_bos
    start = [IMAGE_INDEX] * first + list(renderer.marks.begin)
    asked = [*start, *(IMAGE_INDEX if i == image else i for i in tokenizer(text, add_special_tokens=False).input_ids)]
    assert renderer.render_question((QUESTION,)) == asked
    answered = renderer.render((QUESTION, ANSWER))
    whole = tokenizer(f"{text} a red star", add_special_tokens=False).input_ids
    assert answered.input_ids == [*start, *(IMAGE_INDEX if i == image else i for i in whole), 7]
    assert answered.supervised.index(True) == len(asked)
    assert not first or list(renderer.marks.begin) == tokenizer("").input_ids


def test_the_official_prompt_of_llava_differs_from_hfs_by_the_line_break_before_the_assistant():
    tokenizer = word_tokenizer(["USER", ":", "ASSISTANT", "What", "is", "it", "?", "\n"])
    hf, newline = (
        words(tokenizer, ChatRenderer(tokenizer, m, "none").render_question((QUESTION,))) for m in ("hf", "hf_newline")
    )
    assert newline == [*hf[:-2], "\n", "ASSISTANT", ":"]


def test_a_markup_without_a_place_for_it_refuses_a_system_prompt_and_a_second_question(tokenizer):
    with pytest.raises(ConfigError, match="question has no system prompt"):
        ChatRenderer(tokenizer, "question", "vicuna_v1")
    with pytest.raises(DataError, match="allows one question; this conversation has 2"):
        ChatRenderer(tokenizer, "plain", "none").render((QUESTION, ANSWER, QUESTION))


def test_the_schema_offers_every_markup_there_is():
    choices = next(field for field in fields(ProtocolConfig) if field.name == "template").metadata["choices"]
    assert set(choices) == {"trained", "family", "official", "folder", *CHAT_TEMPLATES}


def test_answers_and_their_ends_are_supervised_and_nothing_else(tokenizer):
    rendered = ChatRenderer(tokenizer, system_prompt="none").render((QUESTION, ANSWER, QUESTION, ANSWER))
    lit = [w for w, on in zip(words(tokenizer, rendered.input_ids), rendered.supervised, strict=True) if on]
    assert lit == ["a", "red", "star", "</s>"] * 2
    assert rendered.labels.count(IGNORE_INDEX) == len(rendered.input_ids) - 8


def test_the_image_comes_first_wherever_the_record_has_it(tokenizer):
    renderer = ChatRenderer(tokenizer, system_prompt="none")
    late = renderer.render((Turn("human", "What is it ?\n<image>"), ANSWER))
    assert late.input_ids == renderer.render((QUESTION, ANSWER)).input_ids
    assert words(tokenizer, late.input_ids)[:5] == ["<s>", "USER", ":", "<IMG>", "\n"]


def test_the_system_prompt_opens_the_conversation_once():
    tokenizer = word_tokenizer([*VICUNA_V1.replace(".", " .").replace(",", " ,").split(), "USER", ":", "ASSISTANT"])
    with_system = ChatRenderer(tokenizer).render((QUESTION, ANSWER, QUESTION, ANSWER))
    chat = tokenizer.get_vocab()["chat"]
    assert with_system.input_ids.count(chat) == 1
    assert not any(with_system.supervised[: with_system.input_ids.index(chat) + 1])


def test_a_question_is_the_conversation_up_to_what_would_be_supervised(tokenizer):
    renderer = ChatRenderer(tokenizer, system_prompt="none")
    rendered = renderer.render((QUESTION, ANSWER))
    first = rendered.supervised.index(True)
    assert renderer.render_question((QUESTION,)) == rendered.input_ids[:first]
    prefixed = renderer.render_question((QUESTION,), answer_prefix="a red")
    assert prefixed == rendered.input_ids[: first + 2]


@pytest.mark.slow
@needs_llama
def test_a_question_for_llama_ends_in_the_colon_that_answers_follow():
    renderer = ChatRenderer(load_tokenizer(LLAMA))
    rendered = renderer.render((QUESTION, ANSWER))
    assert renderer.render_question((QUESTION,)) == rendered.input_ids[: rendered.supervised.index(True)]
    assert renderer.tokenizer.convert_ids_to_tokens(renderer.render_question((QUESTION,))[-1]) == ":"


def test_an_unanswered_last_question_is_kept_and_not_supervised(tokenizer):
    rendered = ChatRenderer(tokenizer, system_prompt="none").render((QUESTION, ANSWER, Turn("human", "and here ?")))
    assert sum(rendered.supervised) == 4
    assert words(tokenizer, rendered.input_ids)[-3:] == ["and", "here", "?"]


def test_text_only_conversations_are_cut_and_those_with_an_image_wait_for_its_expansion(tokenizer):
    renderer = ChatRenderer(tokenizer, system_prompt="none")
    assert len(renderer.render((Turn("human", "a " * 50), ANSWER), max_length=20).input_ids) == 20
    assert len(renderer.render((Turn("human", "<image>\n" + "a " * 50), ANSWER), max_length=20).input_ids) > 20


def test_the_image_becomes_its_tokens_and_the_cut_comes_after():
    rendered = TokenizedConversation([1, IMAGE_INDEX, 7, 8, 9], [False, False, False, True, True])
    expanded = expand_image(rendered, [5, 5, 6, 5], max_length=7)
    assert expanded.input_ids == [1, 5, 5, 6, 5, 7, 8]
    assert expanded.supervised == [False] * 6 + [True]


def test_a_cut_through_an_image_is_an_error_that_names_the_limit():
    with pytest.raises(DataError, match="max_length 3 cuts through the image's tokens; raise it: its 4 tokens"):
        expand_image(TokenizedConversation([1, IMAGE_INDEX], [False, False]), [5] * 4, max_length=3)


@pytest.mark.parametrize(
    ("turns", "complaint"),
    [
        ((QUESTION, QUESTION), "turn 1: expected a turn from 'gpt', not 'human'"),
        ((Turn("human", "say </s> now"), ANSWER), "</s> in a text"),
    ],
)
def test_turns_that_cannot_be_rendered_are_named(tokenizer, turns, complaint):
    with pytest.raises(DataError, match=complaint):
        ChatRenderer(tokenizer, system_prompt="none").render(turns)


def test_a_tokenizer_that_names_an_end_token_it_does_not_have_is_refused():
    tokenizer = word_tokenizer(["a"])
    tokenizer._tokenizer = type(tokenizer._tokenizer).from_str(tokenizer._tokenizer.to_str().replace("</s>", "<e>"))
    with pytest.raises(ConfigError, match="eos_token is '</s>', which is none of its tokens; name the right one"):
        ChatRenderer(tokenizer)


def test_supervised_tokens_are_shown_in_green(tokenizer):
    rendered = ChatRenderer(tokenizer, system_prompt="none").render((QUESTION, ANSWER))
    green, plain = (highlight_targets(rendered, tokenizer, colour=on).replace(" </s>", "</s>") for on in (True, False))
    assert "\033[32ma red star</s>\033[0m" in green
    assert "⟦a red star</s>⟧" in plain


@pytest.mark.slow
def test_the_command_renders_every_record_also_the_silent_one(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    spoken = [{"from": "human", "value": "What is it ?"}, {"from": "gpt", "value": "a star"}]
    source, output = tmp_path / "in.json", tmp_path / "new" / "out.json"
    source.write_text(json.dumps([{"conversations": spoken}, {"conversations": spoken[:1]}]))
    command = [sys.executable, "-m", "train.tools.render_conversations", "--tokenizer", str(tmp_path / "tokenizer")]
    command += ["--conversations", str(source), "--output", str(output), "--system-prompt", "none"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[3])
    assert done.returncode == 0, done.stderr
    assert "2 conversations rendered, 1 without a target token" in done.stderr
    first, second = json.loads(output.read_text())
    assert len(first["input_ids"]) == len(first["labels"])
    assert set(second["labels"]) == {IGNORE_INDEX}


@pytest.mark.parametrize("place", ["nope", "./nope", "/no/where"])
def test_a_tokenizer_that_is_not_there_is_one_line_and_no_question_to_the_hub(place, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(AutoTokenizer, "from_pretrained", lambda *_, **__: pytest.fail("the hub would be asked"))
    monkeypatch.setattr(sys, "argv", ["chat", "--tokenizer", place, "--conversations", str(tmp_path / "in.json")])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_tokenizer_that_fails_without_a_word_is_one_line_too(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise ValueError

    (tmp_path / "tokenizer_config.json").write_text("{}")
    (tmp_path / "vocab.json").write_text("{}")
    monkeypatch.setattr(AutoTokenizer, "from_pretrained", fail)
    with pytest.raises(ConfigError, match=f"no tokenizer at {tmp_path}: ValueError$"):
        load_tokenizer(tmp_path)


def test_an_image_can_follow_the_words_of_its_question(tokenizer):
    renderer = ChatRenderer(tokenizer, system_prompt="none")
    assert words(tokenizer, renderer.render_question((QUESTION,))).index("<IMG>") < 4
    renderer.place_image_last()
    ids = words(tokenizer, renderer.render_question((QUESTION,)))
    assert ids[ids.index("?") + 1 :] == ["\n", "<IMG>", "ASSISTANT", ":"]
    assert "<IMG>" not in words(tokenizer, renderer.render_question((Turn("human", "What is it ?"),)))
    with pytest.raises(ConfigError, match="image_order is after, and chat template question puts the image first"):
        ChatRenderer(tokenizer, template="question", system_prompt="none").place_image_last()
