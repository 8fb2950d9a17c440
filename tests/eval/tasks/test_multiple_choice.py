"""ImageWikiQA as its authors ask and score it: the class named, Figure 9's wording, the answer prefix scored."""

import json
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from configs.errors import DataError
from configs.protocol import ProtocolConfig
from data_prep.choice_prompts import filter_question, with_class
from data_prep.sample import Sample, Turn
from eval.tasks.presets import PRESETS, preset_names
from eval.tasks.registry import make_task
from eval.types import Prediction
from tests.eval.stored_answers import stored_answer

RELEASED = Path(__file__).resolve().parents[4] / "shared" / "data" / "vlmclassifier" / "imagewikiqa.jsonl"
OPTIONS = "A. Africa\nB. South America\nC. A cage of this object\nD. Peru\nChoose A, B, C, or D."
CHOICES = ("Africa", "South America", "A cage of this object", "Peru")
THINK = "Let's think step by step."


def preset(name: str, **changes) -> ProtocolConfig:
    values = OmegaConf.to_container(OmegaConf.load(PRESETS / f"{name}.yaml"))["protocol"]
    return ProtocolConfig(**values | {"task": "multiple_choice", "answer_prefix": THINK} | changes)


def answered(answer: str, prefix: str | None) -> Prediction:
    return stored_answer("a", answer, "B", label_name="tench", choices=CHOICES, prefix=prefix)


def authors_sentence(question: str, name: str) -> str:
    """The released question with its class, by their rule read word by word (imagewikiqa/gen_data.ipynb)."""
    asked, *rest = question.split("\n")
    if asked.find("this object") >= 0:
        asked = name.join(asked.split("this object"))
    elif asked.find("This object") >= 0:
        asked = (name[0].upper() + name[1:].lower()).join(asked.split("This object"))
    elif asked.find("these objects") >= 0:
        asked = (name + "s").join(asked.split("these objects"))
    return "\n".join([asked, *rest])


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        (
            "Where does this object live? Is this object wild?",
            "Where does Norwich terrier live? Is Norwich terrier wild?",
        ),
        ("This object lives where?", "Norwich terrier lives where?"),
        ("Where do these objects live?", "Where do Norwich terriers live?"),
        ("This object meets this object?", "This object meets Norwich terrier?"),
    ],
)
def test_the_class_is_named_in_the_authors_sentence_and_in_no_option(asked, named):
    question = f"<image>\n{asked}\n{OPTIONS}"
    assert with_class(question, "Norwich terrier") == f"<image>\n{named}\n{OPTIONS}"
    assert authors_sentence(f"{asked}\n{OPTIONS}", "Norwich terrier") == f"{named}\n{OPTIONS}"


def test_a_sentences_beginning_has_a_capital_and_the_rest_of_the_name_none():
    assert with_class(f"This object is?\n{OPTIONS}", "Weighing Scale").startswith("Weighing scale is?")


def test_named_everywhere_the_options_name_the_class_too():
    question = with_class(f"<image>\nThis object lives where?\n{OPTIONS}", "ox", "everywhere")
    assert question.startswith("<image>\nox lives where?") and "C. A cage of ox" in question


@pytest.mark.skipif(not RELEASED.is_file(), reason="the authors' imagewikiqa.jsonl is not here")
def test_all_2000_released_questions_name_their_class_as_the_authors_rule_does():
    rows = [json.loads(line) for line in RELEASED.read_text().splitlines()]
    official = [with_class(f"<image>\n{row['text']}", row["classname"]) for row in rows]
    assert official == [f"<image>\n{authors_sentence(row['text'], row['classname'])}" for row in rows]
    asked = [row["text"].split("\n")[0] for row in rows]
    counts = [sum(words in text for text in asked) for words in ("this object", "This object", "these objects")]
    assert (len(rows), counts) == (2000, [1933, 55, 12])
    everywhere = [with_class(f"<image>\n{row['text']}", row["classname"], "everywhere") for row in rows]
    assert sum(one != other for one, other in zip(official, everywhere, strict=True)) == 83  # 4 capitals were there


@pytest.mark.parametrize(("prefix", "letter"), [(f"{THINK} ", "B"), (None, None)])
def test_the_words_of_the_prefix_decide_the_length_rule_of_the_authors_parser(prefix, letter):
    task = make_task(preset("official", unparsed="no_answer"), "ASSISTANT:")
    assert task.score(answered("South America.", prefix)).extracted == letter
    assert make_task(preset("official", scored_part="generated", unparsed="no_answer"), "ASSISTANT:").score(
        answered("South America.", f"{THINK} ")
    ).extracted is None  # fmt: skip


@pytest.mark.parametrize("blank", [" ", "\n", ""])
def test_the_blanks_between_prefix_and_answer_are_those_of_the_decoded_output(blank):
    score = make_task(preset("official", unparsed="no_answer"), "ASSISTANT:").score(answered("B", f"{THINK}{blank}"))
    assert score.extracted == ("B" if blank == " " else None)  # the parser looks for a letter between spaces


def test_what_follows_a_later_delimiter_is_scored_without_the_prefix():
    task = make_task(preset("official", unparsed="no_answer"), "ASSISTANT:")
    assert task.score(answered("(A) USER: more? ASSISTANT: South America", f"{THINK} ")).extracted is None
    assert task.score(answered("(A) USER: more? ASSISTANT: (D)", f"{THINK} ")).extracted == "D"


def test_only_the_zero_shot_protocol_of_the_authors_scores_the_prefix():
    assert [name for name in preset_names() if preset(name).scored_part == "with_prefix"] == ["official"]
    assert [name for name in preset_names() if preset(name).reveal_class_style == "everywhere"] == ["clean"]


FIGURE_9 = """Answer the multiple-choice question below.
Where does this object live?
A. Africa
B. South America
C. A cage of this object
D. Peru
The question mentions "this object". However, we don't know what the object is. Try your best to guess the answer \
without knowing the object.
Output only one character A/B/C/D."""


def test_the_filter_asks_in_the_words_of_figure_9():
    question = f"<image>\nWhere does this object live?\n{OPTIONS}"
    assert filter_question(question, named=False, indent=False) == f"<image>\n{FIGURE_9}"
    assert filter_question(question, named=False, indent=True) == "<image>\n" + FIGURE_9.replace("\n", "\n    ")
    lines = filter_question(question, named=True, indent=False).split("\n")
    assert lines == ["<image>", *(line for line in FIGURE_9.split("\n") if "mentions" not in line)]
    with pytest.raises(DataError, match="no lettered options"):
        filter_question("<image>\nWhere?", named=False, indent=False)


def test_the_filter_sends_text_alone_with_the_class_named_in_the_question():
    turns = (Turn("human", f"<image>\nWhere does this object live?\n{OPTIONS}"), Turn("gpt", "B"))
    sample = Sample(id="a", image=b"jpeg", label=3, label_name="ox", turns=turns)
    settings = {"choice_prompt": "filter", "show_image": False, "filter_indent": False}
    text = make_task(preset("paper", **settings, reveal_class=True)).question(sample).turns[0].text
    assert text.startswith("Answer the multiple-choice question below.\nWhere does ox live?\nA. Africa")
    assert make_task(preset("paper", **settings)).question(sample).turns[0].text == FIGURE_9


@pytest.mark.parametrize(("answer", "letter"), [("B", "B"), ("B. it is", "B"), ("b", None), ("", None), ("(B)", None)])
def test_the_filters_answer_is_its_first_character(answer, letter):
    task = make_task(ProtocolConfig(task="multiple_choice", choice_parser="first_character"))
    assert task.score(answered(answer, None)).extracted == letter


@pytest.mark.parametrize(
    ("text", "answer", "asked"),
    [
        ("<image>\nWhere? (A) Africa (B) Asia", "b", "Where? (A) Africa (B) Asia"),
        ("<image>\nWhere?\n（Ａ）Africa\n（Ｂ）Asia", "Ｂ", "（Ｂ）Asia"),
        ("<image>\nWhere?\n1. Africa\n2. Asia", "2", "Where?\nA. Africa\nB. Asia"),
        ("<image>\nWhere?\nA. Africa\nB. Asia", "Asia", "B. Asia"),
    ],
)
def test_options_in_other_forms_are_asked_and_scored_by_their_letters(text, answer, asked):
    task = make_task(ProtocolConfig(task="multiple_choice", show_image=False))
    question = task.question(Sample(id="a", image=None, turns=(Turn("human", text), Turn("gpt", answer))))
    assert (question.target, question.choices) == ("B", ("Africa", "Asia"))
    assert asked in question.turns[-1].text
