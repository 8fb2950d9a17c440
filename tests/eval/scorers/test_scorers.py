"""Answers to scores: a table of cases, slow references, and the authors' rules where they differ from ours."""

import json
import random
import re
from pathlib import Path

import pytest

from configs.errors import ConfigError
from data_prep.chosen_option import choose_option
from eval.scorers.choice import score_choice
from eval.scorers.registry import find_scorer
from eval.types import Reference, Score

CLASSES = Path(__file__).resolve().parents[4] / "shared" / "data" / "vlmclassifier" / "imagenet_classes.json"
OPTIONS = ("South America", "Africa", "Asia", "Australia")


def match_label(answer: str, names: tuple[str, ...], rule: str) -> Score:
    return find_scorer(rule, "protocol.match")(answer, Reference(names[0], names))


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("B", "B"),
        ("B.", "B"),
        (" b ", "B"),
        ("(B)", "B"),
        ("**B**", "B"),
        ("B)", "B"),
        ("B: Africa", "B"),
        ("B. Africa", "B"),
        ("(B) Africa", "B"),
        ("B Africa", "B"),
        ("B is correct", "B"),
        ("A is correct", "A"),
        ("A. South America", "A"),
        ("A", "A"),
        ("a", "A"),
        ("B\nThe guinea pig lives there.", "B"),
        ("The answer is B", "B"),
        ("The answer is B.", "B"),
        ("the correct answer is (C).", "C"),
        ("The correct answer is: D. Australia", "D"),
        ("The answer is option D", "D"),
        ("Answer: A", "A"),
        ("ANSWER: **C**", "C"),
        ("Therefore, the correct option is C because it is so.", "C"),
        ("The right choice would be A.", "A"),
        ("The answer is A, no, the answer is B.", "B"),
        ("The object is a guinea pig.\nA. South America", "A"),
        ("It is a guinea pig. D. Australia is its home.", "D"),
        ("so it must be (C)", "C"),
        ("I would say B", "B"),
        ("I would say A", "A"),
        ("(B) because (A) is cold", "B"),
        ("A guinea pig comes from South America.", "A"),
        ("A guinea pig comes from Asia, as every cavy.", "C"),
        ("It comes from africa", "B"),
        ("The answer is Asia.", "C"),
        ("The answer is A South American animal of Asia", "C"),
    ],
)
def test_the_letter_is_found_in_every_usual_form(answer, letter):
    assert choose_option(answer, OPTIONS)[0] == letter


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "  ",
        "A guinea pig.",
        "It is A dog",
        "I do not know",
        "A, B, C, or D.",
        "Choose A, B, C, or D.",
        "A. South America\nB. Africa\nC. Asia\nD. Australia",
        "A and B",
        "B or C",
        "Either Africa or Asia",
        "Americans",
        "E",
        "The answer is E.",
        "The answer is not clear.",
        "Ambiguous",
        "Don't know",
        "A-level",
    ],
)
def test_what_cannot_be_understood_is_no_answer_and_not_wrong(answer):
    letter, reason = choose_option(answer, OPTIONS)
    assert letter is None
    assert reason
    assert score_choice(answer, Reference("B", choices=OPTIONS)).value is None


def test_an_option_inside_a_longer_one_is_not_named_by_it():
    options = ("position", "Flat position", "Upright", "Upright position")
    assert choose_option("the flat position", options)[0] == "B"
    assert choose_option("the upright position", options)[0] == "D"
    assert choose_option("it is upright", options)[0] == "C"
    assert choose_option("flat position or upright", options)[0] is None


def test_an_option_is_named_by_whole_words_only():
    assert choose_option("carrots", ("car", "rot", "cat", "tar"))[0] is None
    assert choose_option("a car", ("car", "rot", "cat", "tar"))[0] == "A"


def test_a_declared_letter_wins_over_an_option_text():
    assert choose_option("Not Africa: the answer is C", OPTIONS)[0] == "C"


def test_a_vitamin_is_no_choice_where_an_option_is_named():
    assert choose_option("It is rich in vitamin C and grows in Africa", OPTIONS)[0] == "B"


def test_a_choice_is_right_wrong_or_nothing():
    assert score_choice("B", Reference("B", choices=OPTIONS)).value is True
    assert score_choice("C", Reference("B", choices=OPTIONS)).value is False
    assert score_choice("hm", Reference("B", choices=OPTIONS)).value is None
    assert score_choice("The answer is C", Reference("B", choices=OPTIONS)).extracted == "C"


def authors_choice(response: str, letters: str, options: dict[str, str]) -> list[str]:
    """The authors' parser up to its random draw: the candidates' letters (none: it would draw)."""
    for mark in [",", ".", "!", "?", ";", ":", "'"]:
        response = response.strip(mark)
    response = f" {response} "
    found = [letter for letter in letters if f"({letter})" in response]
    found = found or [letter for letter in letters if f" {letter} " in response]
    if not found and len(response.split()) > 5:
        found = [letter for letter in letters if options[letter].lower() in response.lower()]
    return found


@pytest.mark.parametrize("answer", ["B", "B.", "(B)", "The answer is B", "so it must be (C)", "it would be D of these"])
def test_ours_agrees_with_the_authors_where_theirs_is_certain(answer):
    expected = authors_choice(answer, "ABCD", dict(zip("ABCD", OPTIONS, strict=True)))
    assert len(expected) == 1
    assert choose_option(answer, OPTIONS)[0] == expected[0]


def test_ours_differs_from_the_authors_on_an_article_and_on_a_letter_with_a_full_stop():
    options = dict(zip("ABCD", OPTIONS, strict=True))
    assert authors_choice("It is A dog", "ABCD", options) == ["A"]
    assert choose_option("It is A dog", OPTIONS)[0] is None
    assert authors_choice("My choice: B. That is all", "ABCD", options) == []
    assert choose_option("My choice: B. That is all", OPTIONS)[0] == "B"


@pytest.mark.parametrize(
    ("answer", "name", "contains", "word", "exact"),
    [
        ("tench", "tench", True, True, True),
        (" Tench\n", "tench", True, True, True),
        ("a tench.", "tench", True, True, False),
        ("giant panda", "ant", True, False, False),
        ("a zebra", "bra", True, False, False),
        ("acorn squash", "acorn", True, True, False),
        ("pink primrose", "rose", True, False, False),
        ("St. Bernard dog", "St. Bernard", True, True, False),
        ("jack-o'-lantern", "jack-o'-lantern", True, True, True),
        ("a dog", "cat", False, False, False),
        ("crane bird", "crane  bird", False, False, False),
    ],
)
def test_each_matching_rule_does_what_its_name_says(answer, name, contains, word, exact):
    values = [match_label(answer, (name,), rule).value for rule in ("contains", "word", "exact")]
    assert values == [contains, word, exact]


def test_a_synonym_counts_and_is_named():
    score = match_label("It is a crampfish", ("electric ray", "crampfish"), "contains")
    assert (score.value, score.extracted) == (True, "crampfish")
    assert match_label("It is a crampfish", ("electric ray",), "contains").value is False


def test_an_empty_answer_to_an_open_question_is_no_answer():
    assert match_label("  ", ("tench",), "contains").value is None


def test_a_score_says_why():
    assert match_label("a tench", ("tench",), "word").reason == "'tench' found at character 2 (rule word)"
    assert "none of 'tench'" in match_label("a fish", ("tench",), "word").reason


def test_an_unknown_rule_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match="contains, word, exact"):
        match_label("a", ("a",), "fuzzy")


def slow_word_match(answer: str, name: str) -> bool:
    """`word` by comparing lists of words."""
    words, wanted = (re.findall(r"\w+|[^\w\s]", text.lower()) for text in (answer, name))
    return any(words[i : i + len(wanted)] == wanted for i in range(len(words)))


def test_matching_agrees_with_slow_references_on_random_texts():
    rng = random.Random(0)
    right = 0
    for _ in range(2000):
        answer = " ".join(rng.choices(["ant", "giant", "Ant-eater", "panda", "an", "t"], k=rng.randint(1, 4)))
        name = " ".join(rng.choices(["ant", "panda", "giant"], k=rng.randint(1, 2)))
        expected = slow_word_match(answer, name)
        right += expected
        assert match_label(answer, (name,), "word").value is expected, (answer, name)
        assert match_label(answer, (name,), "contains").value is (name.lower() in answer.lower())
        assert match_label(answer, (name,), "exact").value is (name.lower() == answer.lower())
    assert 100 < right < 1900


@pytest.mark.skipif(not CLASSES.exists(), reason="needs the authors' class list")
def test_56_imagenet_names_stand_inside_another_and_37_still_do_between_word_bounds():
    names = sorted(set(json.loads(CLASSES.read_text())))
    pairs = [(name, other) for name in names for other in names if name != other and name.lower() in other.lower()]
    assert len({name for name, other in pairs if match_label(other, (name,), "contains").value}) == 56
    assert len({name for name, other in pairs if match_label(other, (name,), "word").value}) == 37
