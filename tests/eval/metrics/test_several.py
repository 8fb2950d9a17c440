"""Answers that name several classes are counted, whatever the scorer credits."""

import pytest

from eval.metrics.several import count_several, names_several

CLASSES = ("tench", "goldfish", "pig", "guinea pig", "missile", "missile")


@pytest.mark.parametrize(
    ("answer", "several"),
    [
        ("a tench", False),
        ("a tench, a tench!", False),
        ("a tench or a goldfish", True),
        ("a guinea pig", False),
        ("a guinea pig and a pig", True),
        ("a pig and a tench", True),
        ("not a goldfish but a tench", False),
        ("<think>a goldfish?</think> a tench", False),
        ("<think>a goldfish or a tench", False),
        ("two missiles", False),
        ("", False),
    ],
)
def test_several_classes_are_named_or_not(answer, several):
    assert names_several(answer, CLASSES) is several


def test_the_whole_class_list_is_one_answer_that_names_several():
    assert count_several([", ".join(CLASSES), "a tench"], CLASSES) == 1
