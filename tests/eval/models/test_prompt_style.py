"""A protocol's words for one family."""

from pathlib import Path

import pytest

from configs.protocol import ProtocolConfig
from data_prep.sample import Turn
from eval.models.generate import TextPredictor
from eval.models.prompt_style import resolve_style
from train.chat.conversation import IMAGE_INDEX
from train.chat.render import ChatRenderer
from train.chat.templates import VICUNA_V1
from train.chat.tokenizer import load_tokenizer
from train.models.llava import LlavaFamily
from train.models.loading import load_model
from train.models.registry import family_of

THINK = "Let ' s think step by step"
TURNS = (Turn("human", "<image>\nWhat type of object is in this photo ?"),)


def words(folder, **protocol):
    loaded = load_model(str(folder), None, "fp32", "sdpa")
    return resolve_style(ProtocolConfig(**protocol), loaded.family)


def authors_prompt(system: str, question: str, answer: str | None) -> str:
    """LLaVA's conversation with the authors' messages of the assistant, None and then `answer` (model_vqa.py)."""
    messages = [("USER", question), ("ASSISTANT", None), *([("ASSISTANT", answer)] if answer else [])]
    text = f"{system} "
    for number, (role, message) in enumerate(messages):
        text += f"{role}: {message}{(' ', '</s>')[number % 2]}" if message else f"{role}:"
    return text.replace("</s>", "")


@pytest.mark.parametrize("answer", [None, THINK])
def test_the_doubled_turn_is_the_authors_text_and_only_where_an_answer_is_begun(tiny_model, answer):
    predictor = TextPredictor(
        load_model(str(tiny_model), None, "fp32", "sdpa"),
        ProtocolConfig(template="llava_doubled", system_prompt="the photo", answer_prefix=answer or ""),
    )
    ids = predictor.renderer.render_question(TURNS, predictor.answer_prefix)
    before, after = authors_prompt("the photo", TURNS[0].text, answer).split("<image>")
    tokenizer = load_tokenizer(tiny_model)
    expected = [tokenizer.convert_tokens_to_ids("<s>"), *tokenizer(before, add_special_tokens=False)["input_ids"]]
    expected += [IMAGE_INDEX, *tokenizer(after, add_special_tokens=False)["input_ids"]]
    assert ids == expected
    assert ("ASSISTANT:ASSISTANT:" in after) is (answer is not None)


@pytest.mark.slow
@pytest.mark.parametrize("template", ["family", "official"])
def test_a_reasoned_answer_of_a_blip_begins_in_its_question_and_that_of_llava_in_its_answer(
    tiny_model, families, template
):
    protocol = {"template": template, "answer_prefix": THINK}
    for folder in (families["blip-2"], families["instructblip"]):
        assert words(folder, **protocol).question_suffix == THINK
        assert words(folder, **protocol).answer_prefix == ""
    assert words(tiny_model, **protocol).answer_prefix == THINK
    assert words(tiny_model, **protocol).question_suffix == ""


def test_the_position_of_the_prefix_can_be_chosen(tiny_model, families):
    begun = words(families["blip-2"], answer_prefix=THINK, prefix_position="answer")
    assert (begun.answer_prefix, begun.question_suffix) == (THINK, "")
    doubled = words(tiny_model, answer_prefix=THINK, prefix_position="question", template="llava_doubled")
    assert (doubled.answer_prefix, doubled.question_suffix, doubled.template) == ("", THINK, "llava")


def test_official_ids_are_misaligned_for_blip_and_those_in_context_elsewhere(tiny_model, families):
    assert words(tiny_model, class_token_ids="official").class_token_ids == "in_context"
    assert words(families["blip-2"], class_token_ids="official").class_token_ids == "misaligned"
    assert words(families["blip-2"]).class_token_ids == "in_context"
    assert words(tiny_model, class_token_ids="misaligned").class_token_ids == "misaligned"


def test_every_family_names_the_text_that_the_authors_split_at(tiny_model, families):
    marks = {
        "llava_next": "ASSISTANT:",
        "llava_next_mistral": "[/INST]",
        "blip-2": "Answer:",
        "instructblip": "Answer:",
    }
    for name, mark in marks.items():
        loaded = load_model(str(families[name]), None, "fp32", "sdpa")
        assert loaded.family.prompt_style("official").answer_delimiter == mark
    assert family_of(tiny_model).prompt_style("official").answer_delimiter == "ASSISTANT:"


@pytest.mark.slow
def test_the_doubled_turn_in_llamas_tokens_ends_with_the_space_of_the_authors_text():
    place = Path(__file__).resolve().parents[4] / "shared" / "data" / "llama2_tokenizer"
    if not place.exists():
        pytest.skip("needs the LLaMA tokenizer")
    tokenizer, think = load_tokenizer(place), "Let's think step by step."
    protocol = ProtocolConfig(template="llava_doubled", system_prompt="vicuna_v1", answer_prefix=think)
    words = resolve_style(protocol, LlavaFamily(None))
    ids = ChatRenderer(tokenizer, words.template, words.system_prompt).render_question(TURNS, words.answer_prefix)
    before, after = authors_prompt(VICUNA_V1, TURNS[0].text, think).split("<image>")
    expected = [1, *tokenizer(before, add_special_tokens=False)["input_ids"], IMAGE_INDEX]
    assert ids == [*expected, *tokenizer(after, add_special_tokens=False)["input_ids"]]
    assert tokenizer.convert_ids_to_tokens(ids[-1:]) == ["\u2581"]
