"""Options in the forms that people write, and what is not read because it could be read in two ways."""

import pytest

from data_prep.lettered_options import answer_letter, find_options, unreadable_options, with_letters

TWO = ("Africa", "South America")


@pytest.mark.parametrize(
    "text",
    [
        "Where?\nA. Africa\nB. South America",
        "Where?\nA. Africa\nB. South America\nChoose A or B.",
        "Where? (A) Africa (B) South America",
        "Where? (A) Africa (B) South America\nChoose (A) or (B).",
        "Where? A. Africa B. South America",
        "Where? A) Africa, B) South America",
        "Where? (A) Africa or (B) South America",
        "Where?\n   (A) Africa\n   (B) South America",
        "Where?\n- A. Africa\n- B. South America",
        "Where?\n**A.** Africa\n**B.** South America",
        "Where?\n[A] Africa\n[B] South America",
        "Where?\na) Africa\nb) South America\nAnswer with a letter.",
        "Where? (a) Africa (b) South America",
        "Where?\n（Ａ）Africa\n（Ｂ）South America",
        "Where?\nＡ．Africa\nＢ．South America",
        "Where? Ａ．Africa Ｂ．South America",
        "Where?\nA、Africa\nB、South America",
        "Where?\nA.\nAfrica\nB.\nSouth America",
        "Where?\nA. Africa\n\nB. South\n   America\nPick one.",
        "Where?\n1. Africa\n2. South America",
        "Where?\n(1) Africa\n(2) South America\nAnswer with the number.",
        "A. not the list\nB. this one\nWhere?\nA. Africa\nB. South America",
    ],
)
def test_options_are_read_in_the_forms_that_people_write(text):
    found = find_options(text)
    assert found is not None
    assert found.texts == TWO


@pytest.mark.parametrize(
    "text",
    [
        "Where?",
        "A nice day",
        "Africa or South America?",
        "Where?\nA Africa\nB South America",
        "Where?\nA. Africa\nB. Asia\nD. Peru",
        "Where? (B) Asia (A) Africa",
        "The U.S.A. is near. B. Smith says so.",
        "In 1. Africa? 2. Asia",
        "Where?\n1. Africa",
    ],
)
def test_what_could_be_read_in_two_ways_is_not_read(text):
    assert find_options(text) is None
    assert "A. Africa" in unreadable_options(text)


@pytest.mark.parametrize(
    ("answer", "letter"),
    [("B", "B"), ("b", "B"), ("(B)", "B"), ("B.", "B"), ("Ｂ", "B"), ("（Ｂ）", "B"), ("B. Asia", "B"),
     ("(b) asia.", "B"), ("Asia", "B"), ("A. Asia", None), ("C", None), ("2", None), ("", None), ("Peru", None)],
)  # fmt: skip
def test_a_stored_answer_is_a_letter_or_names_its_option(answer, letter):
    options = find_options("Where?\nA. Africa\nB. Asia")
    assert options is not None
    assert answer_letter(answer, options) == letter


@pytest.mark.parametrize(("answer", "letter"), [("2", "B"), ("2.", "B"), ("B", "B"), ("0", None), ("3", None)])
def test_numbered_options_are_asked_with_letters(answer, letter):
    question = "Where?\n1. Africa\n2. Asia\nAnswer with the letter."
    options = find_options(question)
    assert options is not None
    assert answer_letter(answer, options) == letter
    assert with_letters(question, options) == "Where?\nA. Africa\nB. Asia\nAnswer with the letter."


def test_two_options_of_one_text_are_no_answer():
    options = find_options("Where?\nA. Asia\nB. Asia")
    assert options is not None
    assert answer_letter("Asia", options) is None
    assert answer_letter("B", options) == "B"


def test_two_options_a_line_are_read_too():
    options = find_options("Where?\nA. Africa B. Asia\nC. Europe D. Peru\nChoose one.")
    assert options is not None
    assert options.texts == ("Africa", "Asia", "Europe", "Peru")
