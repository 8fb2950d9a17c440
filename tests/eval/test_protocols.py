"""Items to questions, and answers to scores."""

import json
from pathlib import Path

import pytest

from configs.errors import ConfigError, DataError
from configs.schema import ProtocolConfig
from data_prep.sample import Sample, Turn
from eval.protocols import load_synonyms, make_protocol, read_options
from eval.records import Prediction

QUESTIONS = Path(__file__).resolve().parents[3] / "shared" / "data" / "vlmclassifier" / "imagewikiqa.jsonl"
QUESTION = "<image>\nWhere does it live?\nA. Africa\nB. Asia\nC. Europe\nD. Peru\nChoose A, B, C, or D."


def sample(**changes) -> Sample:
    values = {
        "id": "a",
        "image": b"jpeg",
        "label": 3,
        "label_name": "tench",
        "turns": (Turn("human", QUESTION), Turn("gpt", "B")),
    }
    return Sample(**(values | changes))


def answered(answer: str, target: str = "tench", choices=()) -> Prediction:
    return Prediction(
        id="a", asked="0", target=target, label=3, label_name="tench", choices=choices, answer=answer, tokens=1,
        stopped=True, seconds=0.0,
    )  # fmt: skip


def test_open_world_puts_its_own_wording_in_place_of_the_stored_one():
    question = make_protocol(ProtocolConfig(prompt="identify")).question(sample())
    assert question.turns == (Turn("human", "<image>\nIdentify the object in this image."),)
    assert (question.target, question.choices) == ("tench", ())


@pytest.mark.parametrize(
    ("changes", "message"), [({"label_name": None}, "no label_name"), ({"image": None}, "no image")]
)
def test_open_world_refuses_an_item_without_class_or_image(changes, message):
    with pytest.raises(DataError, match=message):
        make_protocol(ProtocolConfig()).question(sample(**changes))


def test_open_world_scores_by_the_configured_rule_and_synonyms(tmp_path):
    assert make_protocol(ProtocolConfig()).score(answered("a tench!")).value is True
    assert make_protocol(ProtocolConfig(match="exact")).score(answered("a tench!")).value is False
    file = tmp_path / "synonyms.json"
    file.write_text(json.dumps({"tench": ["Tinca tinca"]}))
    assert make_protocol(ProtocolConfig(synonyms=str(file))).score(answered("tinca tinca")).value is True


def test_multiple_choice_asks_the_stored_turns_and_expects_their_letter():
    question = make_protocol(ProtocolConfig(kind="multiple_choice")).question(sample())
    assert question.turns == (Turn("human", QUESTION),)
    assert (question.target, question.choices) == ("B", ("Africa", "Asia", "Europe", "Peru"))


def test_multiple_choice_scores_the_letter_or_nothing():
    protocol = make_protocol(ProtocolConfig(kind="multiple_choice"))
    choices = ("Africa", "Asia", "Europe", "Peru")
    values = [protocol.score(answered(text, "B", choices)).value for text in ("B.", "Asia", "C", "who knows")]
    assert values == [True, True, False, None]


def test_multiple_choice_keeps_earlier_turns_and_needs_no_image():
    turns = (Turn("human", "Hello"), Turn("gpt", "Hi"), Turn("human", QUESTION[8:]), Turn("gpt", "(d)"))
    question = make_protocol(ProtocolConfig(kind="multiple_choice")).question(sample(turns=turns, image=None))
    assert question.turns == turns[:-1]
    assert question.target == "D"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"turns": (Turn("human", QUESTION),)}, "do not end with a question and a letter"),
        ({"turns": (Turn("human", QUESTION), Turn("gpt", "E"))}, "none of its 4 options"),
        ({"turns": (Turn("human", "Where?"), Turn("gpt", "A"))}, "none of its 0 options"),
        ({"image": None}, "asks about an image and has none"),
    ],
)
def test_multiple_choice_refuses_what_it_cannot_judge(changes, message):
    with pytest.raises(DataError, match=message):
        make_protocol(ProtocolConfig(kind="multiple_choice")).question(sample(**changes))


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("Where?\nA. x\nB. y", ("x", "y")),
        ("Where?\n(A) x y \n(B) z", ("x y", "z")),
        ("Where?\nA: x\nB: y\nC: z", ("x", "y", "z")),
        ("A. not an option list\nWhere?\nA. x\nB. y", ("x", "y")),
        ("A nice day", ()),
    ],
)
def test_options_are_read_from_lines_of_their_own(text, options):
    assert read_options(text) == options


@pytest.mark.skipif(not QUESTIONS.exists(), reason="needs the authors' questions")
def test_all_questions_of_imagewikiqa_can_be_asked_and_their_right_answers_are_right():
    protocol = make_protocol(ProtocolConfig(kind="multiple_choice"))
    rows = [json.loads(line) for line in QUESTIONS.read_text().splitlines()]
    assert len(rows) == 2000
    for row in rows:
        turns = (Turn("human", f"<image>\n{row['text']}"), Turn("gpt", row["label"]))
        question = protocol.question(sample(turns=turns))
        assert len(question.choices) == 4
        assert (question.target, question.turns[0].text) == (row["label"], f"<image>\n{row['text']}")
        right = question.choices["ABCD".index(row["label"])]
        for answer in (
            row["label"],
            f"{row['label']}. {right}",
            f"The answer is {row['label']}.",
            f"So it is. {right}.",
        ):
            assert protocol.score(answered(answer, question.target, question.choices)).value is True, answer


def test_the_shipped_list_gives_wordnets_synonyms():
    synonyms = load_synonyms("imagenet")
    assert "crampfish" in synonyms["electric ray"]
    assert "electric ray" not in synonyms["electric ray"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1", "no synonyms file"),
        ('{"tench": "Tinca"}', "not a list of texts"),
        ('{"names": ["a"]}', "has no synonyms"),
    ],
)
def test_a_wrong_synonyms_file_is_refused(tmp_path, content, message):
    file = tmp_path / "synonyms.json"
    file.write_text(content)
    with pytest.raises(DataError, match=message):
        load_synonyms(str(file))


def test_a_missing_synonyms_file_and_an_unknown_wording_are_refused():
    with pytest.raises(DataError, match="no synonyms nowhere"):
        make_protocol(ProtocolConfig(synonyms="nowhere"))
    with pytest.raises(ConfigError, match="known prompts"):
        make_protocol(ProtocolConfig(prompt="nice"))
