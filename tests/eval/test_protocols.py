"""Items to questions, and answers to scores."""

import json
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from configs.errors import ConfigError, DataError, RunError
from configs.protocol import ProtocolConfig
from data_prep.choice_prompts import with_class
from data_prep.sample import Sample, Turn
from eval.tasks.open_world import load_synonyms
from eval.tasks.presets import PRESETS
from eval.tasks.registry import make_task
from eval.types import Prediction
from tests.eval.stored_answers import stored_answer

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
    return stored_answer("a", answer, target, label=3, label_name="tench", choices=choices)


def test_open_world_puts_its_own_wording_in_place_of_the_stored_one():
    question = make_task(ProtocolConfig(prompt="identify")).question(sample())
    assert question.turns == (Turn("human", "<image>\nIdentify the object in this image."),)
    assert (question.target, question.choices) == ("tench", ())


@pytest.mark.parametrize(
    ("changes", "message"), [({"label_name": None}, "no label_name"), ({"image": None}, "no image")]
)
def test_open_world_refuses_an_item_without_class_or_image(changes, message):
    with pytest.raises(DataError, match=message):
        make_task(ProtocolConfig()).question(sample(**changes))


def test_open_world_scores_by_the_configured_rule_and_synonyms(tmp_path):
    assert make_task(ProtocolConfig()).score(answered("a tench!")).value is True
    assert make_task(ProtocolConfig(match="exact")).score(answered("a tench!")).value is False
    file = tmp_path / "synonyms.json"
    file.write_text(json.dumps({"tench": ["Tinca tinca"]}))
    assert make_task(ProtocolConfig(synonyms=str(file))).score(answered("tinca tinca")).value is True


def test_multiple_choice_asks_the_stored_turns_and_expects_their_letter():
    question = make_task(ProtocolConfig(task="multiple_choice")).question(sample())
    assert question.turns == (Turn("human", QUESTION),)
    assert (question.target, question.choices) == ("B", ("Africa", "Asia", "Europe", "Peru"))


def test_multiple_choice_scores_the_letter_or_nothing():
    task = make_task(ProtocolConfig(task="multiple_choice"))
    choices = ("Africa", "Asia", "Europe", "Peru")
    values = [task.score(answered(text, "B", choices)).value for text in ("B.", "Asia", "C", "who knows")]
    assert values == [True, True, False, None]


def test_multiple_choice_keeps_earlier_turns_and_needs_no_image():
    turns = (Turn("human", "Hello"), Turn("gpt", "Hi"), Turn("human", QUESTION[8:]), Turn("gpt", "(d)"))
    question = make_task(ProtocolConfig(task="multiple_choice")).question(sample(turns=turns, image=None))
    assert question.turns == turns[:-1]
    assert question.target == "D"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"turns": (Turn("human", QUESTION),)}, "do not end with a question and a letter"),
        ({"turns": (Turn("human", QUESTION), Turn("gpt", "E"))}, "none of its 4 options"),
        ({"turns": (Turn("human", "Where?"), Turn("gpt", "A"))}, "no lettered options that can be read; the form"),
        ({"image": None}, "shows an image and it has none"),
    ],
)
def test_multiple_choice_refuses_what_it_cannot_judge(changes, message):
    with pytest.raises(DataError, match=message):
        make_task(ProtocolConfig(task="multiple_choice")).question(sample(**changes))


@pytest.mark.slow
@pytest.mark.skipif(not QUESTIONS.exists(), reason="needs the authors' questions")
def test_all_questions_of_imagewikiqa_can_be_asked_and_their_right_answers_are_right():
    task = make_task(ProtocolConfig(task="multiple_choice"))
    rows = [json.loads(line) for line in QUESTIONS.read_text().splitlines()]
    assert len(rows) == 2000
    for row in rows:
        turns = (Turn("human", f"<image>\n{row['text']}"), Turn("gpt", row["label"]))
        question = task.question(sample(turns=turns))
        assert len(question.choices) == 4
        assert (question.target, question.turns[0].text) == (row["label"], f"<image>\n{row['text']}")
        right = question.choices["ABCD".index(row["label"])]
        for answer in (
            row["label"],
            f"{row['label']}. {right}",
            f"The answer is {row['label']}.",
            f"So it is. {right}.",
        ):
            assert task.score(answered(answer, question.target, question.choices)).value is True, answer


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
        make_task(ProtocolConfig(synonyms="nowhere"))
    with pytest.raises(ConfigError, match="known prompts"):
        make_task(ProtocolConfig(prompt="nice"))


CLASSES = ["tench", "red fox", "fox", "fox", "ox"]


@pytest.fixture
def classes(tmp_path):
    file = tmp_path / "classes.json"
    file.write_text(json.dumps(CLASSES))
    return str(file)


def listed(question) -> list[str]:
    text = question.turns[0].text
    return text.split('Choose one from "')[1].removesuffix('".').split(", ")


def test_a_closed_world_question_lists_every_name_once(classes):
    question = make_task(ProtocolConfig(task="closed_world", classes=classes, order="fixed")).question(sample())
    assert question.turns[0].text == (
        '<image>\nWhat type of object is in this photo? Choose one from "tench, red fox, fox, ox".'
    )
    assert question.target == "tench"


def test_the_papers_own_words_have_no_quotes_around_the_list(classes):
    settings = OmegaConf.load(PRESETS / "paper.yaml").protocol
    config = ProtocolConfig(task="closed_world", classes=classes, order="fixed", class_quotes=settings.class_quotes)
    asked = make_task(config).question(sample()).turns[0].text
    assert asked.endswith(" Choose one from tench, red fox, fox, ox.")


def test_random_order_and_candidates_depend_on_the_item_alone(classes):
    task = make_task(ProtocolConfig(task="closed_world", classes=classes, candidates=3))
    lists = {item: listed(task.question(sample(id=item))) for item in "abcdefgh"}
    assert all(len(set(names)) == 3 and "tench" in names for names in lists.values())
    assert len(set(map(tuple, lists.values()))) > 3
    again = make_task(ProtocolConfig(task="closed_world", classes=classes, candidates=3))
    assert {item: listed(again.question(sample(id=item))) for item in reversed("abcdefgh")} == lists


@pytest.mark.parametrize(
    ("changes", "label", "message"),
    [({}, "cat", "'cat' is not among the 5"), ({"candidates": 9}, "tench", "candidates is 9, but there are 4")],
)
def test_a_closed_world_question_that_cannot_be_put_is_refused(classes, changes, label, message):
    task = make_task(ProtocolConfig(task="closed_world", classes=classes, **changes))
    with pytest.raises(DataError, match=message):
        task.question(sample(label_name=label))


def test_closed_world_without_a_class_list_is_refused():
    with pytest.raises(ConfigError, match="needs protocol"):
        ProtocolConfig(task="closed_world")


def test_only_what_follows_the_last_marker_is_judged_if_asked():
    assert make_task(ProtocolConfig()).score(answered("tench. Answer: dog")).value is True
    assert make_task(ProtocolConfig(answer_after="Answer:")).score(answered("tench. Answer: dog")).value is False


def test_imagewikiqa_without_image_asks_the_words_alone():
    question = make_task(ProtocolConfig(task="multiple_choice", show_image=False)).question(sample(image=None))
    assert question.turns[0].text.startswith("Where does it live?")


def test_the_class_is_named_instead_of_this_object():
    assert with_class("<image>\nWhere does this object live?", "ox") == "<image>\nWhere does ox live?"
    assert with_class("<image>\nWhere?", "ox") == "<image>\nThe object in this image is ox. Where?"
    assert with_class("Where?", "ox") == "The object in this image is ox. Where?"
    task = make_task(ProtocolConfig(task="multiple_choice", reveal_class=True))
    assert "image is tench. Where" in task.question(sample()).turns[0].text


def test_a_question_that_names_its_class_is_refused_if_asked():
    turns = (Turn("human", QUESTION.replace("it", "a Tench")), Turn("gpt", "B"))
    make_task(ProtocolConfig(task="multiple_choice")).question(sample(turns=turns))
    with pytest.raises(DataError, match="names its class 'tench'"):
        make_task(ProtocolConfig(task="multiple_choice", refuse_leaks=True)).question(sample(turns=turns))


def test_an_unreadable_choice_is_guessed_only_if_asked_and_the_same_every_time():
    choices = ("Africa", "Asia", "Europe", "Peru")
    task = make_task(ProtocolConfig(task="multiple_choice", unparsed="random"))
    scores = [task.score(answered("who knows", "B", choices)) for _ in range(3)]
    assert len({score.extracted for score in scores}) == 1
    assert "drawn at random" in scores[0].reason


@pytest.mark.parametrize(
    ("answer", "letter"),
    [("(B)", "B"), ("I say B then C", "C"), ("It is A dog", "A"), ("because B. is it", None),
     ("well it surely lives far away in Asia today", "B"), ("Asia", None), ("B.'", None), ("B!.", "B")],
)  # fmt: skip
def test_mmmus_parser_reads_what_the_authors_code_reads(answer, letter):
    task = make_task(ProtocolConfig(task="multiple_choice", choice_parser="mmmu"))
    assert task.score(answered(answer, "B", ("Africa", "Asia", "Europe", "Peru"))).extracted == letter


def test_auto_synonyms_are_the_class_lists(classes):
    assert load_synonyms("auto", classes) == {}
    assert "crampfish" in load_synonyms("auto", "imagenet")["electric ray"]
    assert "gladiolus" in load_synonyms("auto", "flowers102")["sword lily"]
    assert load_synonyms("auto", "caltech101")["platypus"][:2] == ("duckbill", "duckbilled platypus")


@pytest.mark.parametrize("answer", ["AB", "ABCD", "BC", "E"])
def test_several_letters_are_no_right_answer(answer):
    turns = (Turn("human", QUESTION), Turn("gpt", answer))
    with pytest.raises(DataError, match=f"its answer '{answer}' is none of its 4 options' letters"):
        make_task(ProtocolConfig(task="multiple_choice")).question(sample(turns=turns))


def authors_caption_match(label: str, caption: str) -> bool:
    """training_analysis/blip/eval.ipynb, in other words."""
    for mark in "()":
        label = "".join(label.split(mark))
    return caption.lower().find(label.lower()) >= 0


@pytest.mark.parametrize("label", ["kite (bird of prey)", "St. Bernard", "tench"])
@pytest.mark.parametrize("caption", ["a kite bird of prey", "a kite (bird of prey)", "st bernard", "a Tench"])
def test_marks_deleted_from_the_label_match_as_the_authors_captions_do(label, caption):
    score = make_task(ProtocolConfig(delete_from_label="()")).score(answered(caption, label))
    assert score.value is authors_caption_match(label, caption)


def test_marks_deleted_on_both_sides_find_what_captions_lost():
    both = ProtocolConfig(delete_from_label='.!"()*#:;~', delete_from_answer='.!"()*#:;~')
    assert make_task(both).score(answered("st bernard", "St. Bernard")).value is True
    assert make_task(both).score(answered("a kite (bird of prey)", "kite (bird of prey)")).value is True


@pytest.mark.parametrize(("mark", "expected"), [("Answer:", False), ("ASSISTANT:", True), ("", True)])
def test_after_last_official_is_the_text_of_the_models_family(mark, expected):
    task = make_task(ProtocolConfig(answer_after="official"), mark)
    assert task.score(answered("tench. Answer: dog")).value is expected


def test_after_last_official_scores_nothing_before_the_family_is_known():
    with pytest.raises(RunError, match="run the same command without --report-only"):
        make_task(ProtocolConfig(answer_after="official")).score(answered("tench"))
