"""VQA accuracy on cases computed by hand, by the code of the VQA challenge and by that of M4C (LLaVA)."""

import pytest

from eval.scorers.vqa import score_vqa, score_vqa_llava, vqa_accuracy
from eval.types import Reference


def people(**counts: int) -> Reference:
    names = [name.replace("_", " ") for name, count in counts.items() for _ in range(count)]
    return Reference(names[0], tuple(names))


@pytest.mark.parametrize(("same", "score"), [(0, 0.0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (9, 1.0), (10, 1.0)])
def test_the_score_of_an_answer_that_k_of_ten_people_gave(same, score):
    assert vqa_accuracy("x", ["x"] * same + [f"other {number}" for number in range(10 - same)]) == pytest.approx(score)


@pytest.mark.parametrize(
    ("answer", "normalized"),
    [
        ("The Dog", "dog"),  # lower case, no article
        ("two dogs", "2 dogs"),  # number words
        ("none", "0"),
        ("eleven", "eleven"),  # the table ends at ten
        ("dont walk", "don't walk"),  # contraction
        ("3.5", "3.5"),  # a period before a digit remains
        ("Dr. Pepper.", "dr pepper"),  # other periods do not
        ("1,000", "1000"),  # a comma in a number is deleted
        ("red-blue", "red blue"),  # a mark between letters becomes a blank
        ("red - blue", "red blue"),  # one next to a blank is deleted
        ("1,000-2,000", "10002000"),  # all marks are deleted in a text with such a number
        ("yes!", "yes"),
        ("line\none", "line 1"),
        ("what is it?", "what is it"),
        ("Coca Cola's", "coca cola's"),
    ],
)
def test_the_form_in_which_the_challenge_compares_an_answer(answer, normalized):
    assert score_vqa(answer, people(x=10)).extracted == normalized


@pytest.mark.parametrize(
    ("answer", "normalized"),
    [
        ("The Dog", "dog"),
        ("1,000-2,000", "1000 2000"),  # M4C has deleted the commas before
        ("Coca Cola's", "coca cola 's"),  # and parts the possessive
        ("who?s", "whos"),
        ("a,b", "ab"),
        ("3.5.", "3.5"),
    ],
)
def test_the_form_in_which_m4c_compares_an_answer(answer, normalized):
    expected = {"whos": "who's"}.get(normalized, normalized)
    assert score_vqa_llava(answer, people(x=10)).extracted == expected


def test_people_answers_keep_their_articles_by_the_challenge_and_lose_them_by_m4c():
    reference = people(the_dog=6, cat=4)
    assert (score_vqa("dog", reference).credit, score_vqa("the dog", reference).credit) == (0.0, 0.0)
    assert score_vqa_llava("The dog", reference).credit == 1.0


def test_ten_equal_answers_are_compared_as_they_are_by_the_challenge():
    assert score_vqa("a.b", Reference("a.b", ("a.b",) * 10)).credit == 0.0  # "ab" against "a.b"
    assert score_vqa("a.b", Reference("a.b", (*("a.b",) * 9, "c"))).credit == 1.0
    assert score_vqa_llava("a.b", Reference("a.b", ("a.b",) * 10)).credit == 1.0


def test_an_answer_with_a_part_of_the_points_is_correct_and_says_how_many_agree():
    score = score_vqa("nokia", people(nokia=2, samsung=8))
    assert (score.value, score.points, score.reason) == (
        True, pytest.approx(0.6), "'nokia' is the answer of 2 of 10 people (rule vqa)",
    )  # fmt: skip
    wrong = score_vqa("sony", people(nokia=2, samsung=8))
    assert (wrong.value, wrong.points) == (False, 0.0)


@pytest.mark.parametrize("scorer", [score_vqa, score_vqa_llava])
def test_an_empty_answer_is_none_even_where_people_wrote_only_an_article(scorer):
    score = scorer("  ", people(the=10))
    assert (score.value, score.points) == (None, 0.0)
