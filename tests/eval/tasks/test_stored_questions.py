"""Questions with free answers as they are asked: the suffix, the OCR tokens, the references and the shared image."""

import pytest

from configs.errors import ConfigError, DataError
from configs.protocol import ProtocolConfig
from data_prep.sample import Sample, Turn
from eval.runner.predictions import from_line, to_line
from eval.tasks.registry import make_task
from eval.types import Prediction
from tests.eval.stored_answers import stored_answer

SUFFIX = "Answer the question using a single word or phrase."
PEOPLE = ["nokia"] * 8 + ["n"] * 2


def sample(answer: str = "nokia", **meta: object) -> Sample:
    turns = (Turn("human", "<image>\nWhat brand?"), Turn("gpt", answer))
    return Sample(id="i/1", image=b"jpeg", turns=turns, meta={"group": "i", "answers": PEOPLE} | meta)


def answered(text: str, **changes: object) -> Prediction:
    values = {"target": "yes", "references": tuple(PEOPLE), "group": "i"} | changes
    return stored_answer("i/1", text, label=None, label_name=None, **values)


def asked(config: ProtocolConfig, item: Sample) -> str:
    return make_task(config).question(item).turns[-1].text


def test_llavas_prompt_has_the_ocr_tokens_and_the_suffix_on_lines_of_their_own():
    llava = ProtocolConfig(task="vqa", question_suffix=SUFFIX, ocr_tokens=True)
    assert asked(llava, sample(ocr_tokens=["NOKIA", "5:00"])) == (
        f"<image>\nWhat brand?\nReference OCR token: NOKIA, 5:00\n{SUFFIX}"
    )
    for tokens in ("NOKIA", ["NOKIA", 5]):
        with pytest.raises(DataError, match=r"meta\.ocr_tokens is no list of texts"):
            asked(llava, sample(ocr_tokens=tokens))
    assert asked(llava, sample(ocr_tokens=[])) == f"<image>\nWhat brand?\nReference OCR token:\n{SUFFIX}"
    assert asked(ProtocolConfig(task="vqa", question_suffix=SUFFIX), sample(ocr_tokens=["x"])) == (
        f"<image>\nWhat brand?\n{SUFFIX}"
    )


def test_a_question_carries_the_peoples_answers_and_its_image():
    question = make_task(ProtocolConfig(task="vqa")).question(sample())
    assert (question.target, question.references, question.group) == ("nokia", tuple(PEOPLE), "i")


def test_stored_references_and_image_are_read_back():
    prediction = answered("nokia")
    assert from_line(to_line(prediction)) == prediction
    plain = answered("nokia", references=None, group=None)
    assert "references" not in to_line(plain)
    assert from_line(to_line(plain)) == plain


@pytest.mark.parametrize("answers", [None, [], ["a", 1], "nokia"])
def test_vqa_refuses_an_item_without_peoples_answers(answers):
    with pytest.raises(DataError, match=r"people's answers in meta\.answers"):
        make_task(ProtocolConfig(task="vqa")).question(sample(answers=answers))


def test_yes_no_refuses_an_item_with_another_answer():
    with pytest.raises(DataError, match="its answer is 'nokia'; task yes_no needs yes or no"):
        make_task(ProtocolConfig(task="yes_no")).question(sample())
    assert make_task(ProtocolConfig(task="yes_no")).question(sample("Yes ")).target == "yes"


def test_an_item_without_its_image_is_refused():
    item = Sample(id="a", turns=sample().turns, meta=sample().meta)
    with pytest.raises(DataError, match="shows an image and it has none"):
        make_task(ProtocolConfig(task="vqa")).question(item)


def test_the_scorer_is_the_protocols():
    assert make_task(ProtocolConfig(task="vqa")).score(answered("Nokia.")).points == 1.0
    assert make_task(ProtocolConfig(task="yes_no")).score(answered("NO")).extracted == "yes"
    careful = ProtocolConfig(task="yes_no", yes_no_scorer="yes_no")
    assert make_task(careful).score(answered("NO")).extracted == "no"
    with pytest.raises(ConfigError, match=r"protocol\.vqa_scorer is 'x'"):
        make_task(ProtocolConfig(task="vqa", vqa_scorer="x"))
