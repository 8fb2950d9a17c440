"""Batched greedy generation gives the tokens of plain transformers."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from transformers import LlavaForConditionalGeneration

from configs.errors import DataError
from configs.protocol import ProtocolConfig
from data_prep.sample import Turn
from eval.models.generate import Prompt, TextPredictor
from train.chat.render import ChatRenderer
from train.chat.tokenizer import load_tokenizer
from train.models.loading import load_model

THINK = "Let's think step by step."
QUESTIONS = (
    "<image>\nWhat type of object is in this photo?",
    "Identify the object",
    "<image>\nIdentify",
    "A B C D",
    "<image>\nChoose A , B , C , or D . What is the answer ? Let ' s think step by step",
)


@pytest.fixture(scope="module")
def loaded(tiny_model):
    return load_model(str(tiny_model), None, "fp32", "sdpa")


@pytest.fixture(scope="module")
def predictor(loaded):
    return TextPredictor(loaded, ProtocolConfig(max_new_tokens=12))


@pytest.fixture
def prompts(predictor, picture):
    return [
        predictor.prompt((Turn("human", text),), picture(number) if "<image>" in text else None)
        for number, text in enumerate(QUESTIONS)
    ]


def plain_answer(folder, predictor, prompt):
    """New tokens of transformers' own generate, one question at a time."""
    model = LlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    ids = torch.tensor([prompt.input_ids])
    image = {}
    if prompt.image is not None:
        image["pixel_values"] = predictor.images.pixels.normalize(torch.from_numpy(prompt.image.arrays["pixels"])[None])
    output = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        **image,
        do_sample=False,
        max_new_tokens=predictor.max_new_tokens,
        eos_token_id=predictor.renderer.eos,
        pad_token_id=3,
    )
    return output[0, ids.shape[1] :].tolist()


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [1, 5])
def test_tokens_equal_those_of_plain_transformers(tiny_model, predictor, prompts, batch_size):
    ours = []
    for start in range(0, len(prompts), batch_size):
        ours += [answer.token_ids for answer in predictor.predict(prompts[start : start + batch_size])]
    expected = [plain_answer(tiny_model, predictor, prompt) for prompt in prompts]
    assert ours == expected
    assert len({len(prompt.input_ids) for prompt in prompts}) == len(prompts)  # lengths do differ
    assert len({tuple(tokens) for tokens in ours}) > 1  # and so do the answers


def test_the_answer_prefix_is_part_of_the_question(loaded, prompts):
    prefixed = TextPredictor(loaded, ProtocolConfig(max_new_tokens=12, answer_prefix="Let's think step by step."))
    asked = prefixed.prompt((Turn("human", QUESTIONS[1]),), None)
    assert len(asked.input_ids) > len(prompts[1].input_ids)
    assert asked.input_ids[: len(prompts[1].input_ids)] == prompts[1].input_ids


def authors_prediction(predictor, prompt, tokens) -> str:
    """The whole output decoded, prompt included, and what follows its last delimiter (imagewikiqa/main.py)."""
    image, end = predictor.family.image_token_id, predictor.renderer.eos
    whole = [token for token in (*prompt.input_ids, *tokens) if token not in (image, end)]
    return predictor.renderer.tokenizer.decode(whole, skip_special_tokens=True).split("ASSISTANT :")[-1].strip()


def test_prefix_and_answer_are_what_follows_the_last_delimiter_of_the_whole_output(loaded, picture):
    think = "Let ' s think step by step"
    predictor = TextPredictor(loaded, ProtocolConfig(max_new_tokens=5, answer_prefix=think))
    prompts = [predictor.prompt((Turn("human", text),), picture(1)) for text in QUESTIONS]
    answers = predictor.predict(prompts)
    assert any(answer.text for answer in answers)
    for prompt, answer in zip(prompts, answers, strict=True):
        assert answer.prefix is not None and answer.prefix.startswith(think)
        assert f"{answer.prefix}{answer.text}".strip() == authors_prediction(predictor, prompt, answer.token_ids)


def test_without_an_answer_prefix_none_is_stored(predictor, prompts):
    assert {answer.prefix for answer in predictor.predict(prompts)} == {None}


@pytest.mark.slow
@pytest.mark.parametrize("said", [" South America.", "\n\nB", "B", "  (B) ", "", "\n"])
@pytest.mark.parametrize("form", ["tokenizer_legacy_true", "tokenizer_legacy_false"])
def test_in_llamas_tokens_the_blanks_before_the_answer_are_kept(form, said):
    folder = Path(__file__).resolve().parents[4] / "shared" / "data" / form
    if not folder.exists():
        pytest.skip("needs the LLaMA tokenizer")
    predictor = object.__new__(TextPredictor)
    predictor.renderer, predictor.answer_prefix = ChatRenderer(load_tokenizer(folder)), THINK
    predictor.stated_ends = frozenset()
    asked = predictor.renderer.render_question((Turn("human", "Where?"),), THINK)
    sentencepiece = predictor.renderer.llama_tokenizer
    tokens = sentencepiece.ids(THINK + said)[len(sentencepiece.ids(THINK)) :]
    answer = predictor._answer(Prompt(asked, None, ""), [*tokens, predictor.renderer.eos], 0.0)
    assert answer.text == said.strip()
    blanks = said[: len(said) - len(said.lstrip())] if said.strip() else ""
    assert answer.prefix == f"{THINK}{blanks}"


def test_an_answer_ends_with_the_end_token_and_does_not_show_it(loaded, predictor, prompts, monkeypatch):
    tokens = predictor.predict(prompts[:2])[0].token_ids
    monkeypatch.setattr(predictor.renderer, "eos", tokens[2])  # as if the third token were </s>
    ended, other = predictor.predict(prompts[:2])
    assert ended.token_ids == tokens[: tokens.index(tokens[2]) + 1]
    assert ended.stopped
    assert other.stopped is (tokens[2] in other.token_ids)


def test_an_answer_ends_at_any_end_token_of_the_generation_settings(loaded, tiny_model, prompts, monkeypatch):
    tokens = TextPredictor(loaded, ProtocolConfig(max_new_tokens=12)).predict(prompts[:1])[0].token_ids
    ends = [tokens[5], tokens[2], 2]
    monkeypatch.setattr(loaded.model.generation_config, "eos_token_id", ends)
    predictor = TextPredictor(loaded, ProtocolConfig(max_new_tokens=12))
    answer = predictor.predict(prompts[:1])[0]
    assert answer.token_ids == tokens[: min(tokens.index(end) for end in ends[:2]) + 1]
    assert answer.stopped
    shown = loaded.tokenizer.decode(answer.token_ids[:-1], skip_special_tokens=True).strip()
    assert answer.text == shown, "an end token is not shown, also one that is an ordinary word"


def test_a_question_of_no_length_limit_is_cut_at_max_new_tokens(predictor, prompts):
    answers = predictor.predict(prompts)
    assert all(len(answer.token_ids) <= 12 for answer in answers)
    assert any(not answer.stopped for answer in answers)


def test_a_batch_of_text_only_questions_needs_no_image(predictor, prompts):
    alone = predictor.predict([prompts[1]])[0].token_ids
    together = predictor.predict([prompts[1], prompts[3]])[0].token_ids
    assert alone == together


def test_the_question_hash_names_the_tokens_and_nothing_else(predictor, picture):
    turns = (Turn("human", QUESTIONS[0]),)
    first, second = predictor.prompt(turns, picture(1)), predictor.prompt(turns, picture(2))
    assert first.prompt_hash == second.prompt_hash
    ids = predictor.renderer.render_question(turns)
    assert first.prompt_hash == hashlib.sha256(json.dumps(ids).encode()).hexdigest()[:16]


def test_a_question_with_an_image_that_is_not_there_is_refused(predictor):
    with pytest.raises(DataError, match="shows 1 images and the item has 0"):
        predictor.prompt((Turn("human", QUESTIONS[0]),), None)


@pytest.mark.slow
def test_an_answer_is_as_long_as_the_room_behind_its_question_and_its_neighbours_are_not_cut(loaded):
    predictor = TextPredictor(loaded, ProtocolConfig(max_new_tokens=200))
    texts = ["A " * 380, "Identify the object", "A " * 381]
    prompts = [predictor.prompt((Turn("human", text),), None) for text in texts]
    rooms = [min(200, 512 - len(prompt.input_ids)) for prompt in prompts]
    assert 64 <= rooms[2] < rooms[0] < rooms[1] == 200
    together = [answer.token_ids for answer in predictor.predict(prompts)]
    for prompt, tokens, room in zip(prompts, together, rooms, strict=True):
        predictor.max_new_tokens = room
        assert tokens == predictor.predict([prompt])[0].token_ids
        assert len(tokens) <= room
    with pytest.raises(DataError, match="an answer of 64 exceed"):
        TextPredictor(loaded, ProtocolConfig(max_new_tokens=200)).prompt((Turn("human", "A " * 450),), None)


def test_a_question_longer_than_the_model_is_refused(predictor):
    with pytest.raises(DataError, match="512 positions"):
        predictor.prompt((Turn("human", "A " * 600),), None)
