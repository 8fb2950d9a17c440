"""Questions are found in replies of every form; what cannot be used is left out with its reason."""

import json
from pathlib import Path

import pytest

from data_prep.wikiqa.generated import answer_index, parse_reply
from data_prep.wikiqa.prompts import again_prompt, generation_prompt, template

PAPER = Path(__file__).resolve().parents[4] / "shared" / "paper" / "paper.txt"


def fields(**changes) -> dict:
    known = {"question": "Where does this object live?", "choices": ["Africa", "Asia", "Europe", "Peru"], "answer": 1}
    return known | {"reference": "It lives in Asia."} | changes


FIVE = [fields(question=f"{number}?") for number in range(5)]
WORDS = ["0?", "1?", "2?", "3?", "4?"]


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (json.dumps(FIVE), WORDS),
        (f"```json\n{json.dumps(FIVE, indent=2)}\n```", WORDS),
        (f"Here are [five] questions:\n```\n{json.dumps(FIVE)}\n```\nI hope this helps!", WORDS),
        (json.dumps({"questions": FIVE}), WORDS),
        (json.dumps({f"question{number}": one for number, one in enumerate(FIVE)}), WORDS),
        ("\n".join(map(json.dumps, FIVE)), WORDS),
        ("".join(f"{n}. ```json\n{json.dumps(one)}\n```\n" for n, one in enumerate(FIVE)), WORDS),
        (f"<think>[{json.dumps(fields())}]? No.</think>{json.dumps(FIVE)}", WORDS),
        (json.dumps(FIVE).replace("}]", "},]"), WORDS),
        (json.dumps(FIVE)[:-30], WORDS[:4]),
        (json.dumps([*FIVE, fields(question="5?")]), WORDS),
        (json.dumps([fields(question="Où vit-il ?", choices=["Pérou", "東京", "Åland", "Κρήτη"])]), ["Où vit-il ?"]),
    ],
)
def test_the_questions_of_a_reply_are_found_in_its_order(reply, expected):
    assert [question.question for question in parse_reply(reply, 5).questions] == expected


@pytest.mark.parametrize(
    ("reply", "fault"),
    [
        ("", "empty reply"),
        ("I cannot help [with that].", "no question in JSON"),
        ("<think>Well, [", "reply ends in its reasoning"),
        (json.dumps([fields(choices=["a", "b", "c"])]), "3 choices in place of 4"),
        (json.dumps([fields(choices=["a", "b", "c", "d", "e"])]), "5 choices in place of 4"),
        (json.dumps([fields(choices=["a", "b", "c", "A."])]), "repeated choices"),
        (json.dumps([fields(choices=["a", "b", "c", " "])]), "an empty choice"),
        (json.dumps([fields(choices=["a", "b", "c", None])]), "no text as choice"),
        (json.dumps([fields(choices="a, b, c, d")]), "no list of choices"),
        (json.dumps([fields(question="")]), "an empty question"),
        (json.dumps([fields(question=None)]), "no text as question"),
        (json.dumps([fields(answer=4)]), "an answer that is none of its choices"),
        (json.dumps([fields(answer=-1)]), "an answer that is none of its choices"),
        (json.dumps([fields(answer=True)]), "an answer that is none of its choices"),
        (json.dumps([fields(answer=None)]), "no answer"),
        (json.dumps([fields(), fields()]), "repeated question"),
        (json.dumps([fields(question="Where? A. Here B. There")]), "lettered options inside the question"),
        (json.dumps([fields(choices=["x", "y", "v E. z", "w"])]), "choices that cannot be read back"),
        (json.dumps(FIVE[:3]), "too few questions: 3 in place of 5"),
    ],
)
def test_what_cannot_be_used_is_left_out_with_its_reason(reply, fault):
    assert any(found.startswith(fault) for found in parse_reply(reply, 5).faults), parse_reply(reply, 5)


@pytest.mark.parametrize(
    ("answer", "choices", "index"),
    [
        (2, "abcd", 2), (2.0, "abcd", 2), (2.5, "abcd", None), ("2", ["Africa", "Asia", "Peru", "Oman"], 2),
        ("B", ["Africa", "Asia", "Peru", "Oman"], 1), ("(b)", ["Africa", "Asia", "Peru", "Oman"], 1),
        ("B. Asia", ["Africa", "Asia", "Peru", "Oman"], 1), ("B. Peru", ["Africa", "Asia", "Peru", "Oman"], None),
        (" peru. ", ["Africa", "Asia", "Peru", "Oman"], 2), (["Peru"], ["Africa", "Asia", "Peru", "Oman"], 2),
        ("O", ["A", "B", "AB", "O"], 3), ("B", ["A", "B", "AB", "O"], 1), ("B", ["B", "A", "AB", "O"], None),
        ("2", ["1", "2", "3", "4"], None), ("2", ["0", "1", "2", "3"], 2), ("1999", ["1998", "1999", "7", "8"], 1),
        ("Brazil", ["Africa", "Asia", "Peru", "Oman"], None),
        (1999, ["1998", "1999", "7", "8"], 1), (7.5, ["7.5", "8", "9", "10"], 0), (9, ["7", "8", "10", "11"], None),
        ({"a": 1}, "abcd", None),
    ],
)  # fmt: skip
def test_an_answer_is_an_index_a_letter_or_a_text_and_none_where_two_readings_differ(answer, choices, index):
    assert answer_index(answer, choices) == index


def test_letters_before_choices_are_removed_and_an_object_of_letters_is_a_list():
    lettered = parse_reply(json.dumps([fields(choices=["A) Africa", "B) Asia", "C) 1, 2", "D) x"])]), 1).questions[0]
    assert lettered.choices == ("Africa", "Asia", "1, 2", "x")
    lower = parse_reply(json.dumps([fields(choices=["a. Africa", "b. Asia", "c. 1, 2", "d. x"])]), 1).questions[0]
    assert lower.choices == lettered.choices
    mapped = parse_reply(json.dumps([fields(choices=dict(zip("ABCD", "wxyz", strict=True)), answer="C")]), 1).questions[
        0
    ]
    assert (mapped.choices, mapped.answer) == (("w", "x", "y", "z"), 2)
    several = parse_reply(json.dumps([fields(reference=["One.", "Two\n two."])]), 1).questions[0]
    assert several.reference == "One. Two two."


@pytest.mark.skipif(not PAPER.is_file(), reason="the paper's text is not there")
def test_the_prompts_are_those_of_the_figures_word_for_word():
    text = " ".join(PAPER.read_text().replace("↳", " ").split())
    figure_8 = template("figure_8_generate").replace("{count}", "five").replace("{article}", "{wikipedia page}")
    assert " ".join(figure_8.split()) in text
    for name, asked in (("with", "question with"), ("without", "question without")):
        options = " ".join(f"{letter}. {{choice {letter}}}" for letter in "ABCD")
        figure_9 = template(f"figure_9_{name}_class").replace("{question}", f"{{{asked} ground-truth class name}}")
        figure_9 = figure_9.replace("{options}", options).replace("{letters}", "A/B/C/D")
        assert " ".join(figure_9.split()) in text


def test_braces_of_an_article_stay_and_a_second_prompt_names_what_was_wrong():
    prompt = generation_prompt("jack-o'-lantern, carved", "{classname} {x}", 5)
    assert "'''\n{classname} {x}\n'''" in prompt
    assert prompt.startswith("Come up with five multiple-choice questions for a jack-o'-lantern, carved to examine")
    again = again_prompt(prompt, ("repeated choices", "no answer"), 5)
    assert again.startswith(
        f"{prompt}\n\nA former reply could not be used: repeated choices; no answer. Output all five"
    )
