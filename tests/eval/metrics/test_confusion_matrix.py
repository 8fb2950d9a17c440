"""The confusion matrix: every item is counted once, and what is confused is next to each other."""

import doctest

import numpy as np

from eval.metrics import confusion_matrix as module
from eval.metrics.confusion_matrix import LISTED, MOST, NO_ANSWER, OTHER, clustered_order, confusion_matrix
from eval.reports.answered_classes import answered_classes, answered_letters, taken_for
from eval.types import Prediction, Score
from tests.eval.stored_answers import stored_answer


def item(name: str, answer: str, value: bool | None, choices: tuple[str, ...] = ()) -> tuple[Prediction, Score]:
    prediction = stored_answer(name, answer, name, choices=choices)
    return prediction, Score(value, answer if choices and value is not None else None, "")


def test_every_item_is_in_one_cell():
    pairs = [("cat", "cat"), ("cat", OTHER), ("dog", "fox"), ("dog", NO_ANSWER), ("dog", "dog")]
    found = confusion_matrix(pairs)
    assert found["rows"] == ["cat", "dog"]
    assert found["columns"] == ["cat", "dog", "fox", OTHER, NO_ANSWER]
    assert sum(map(sum, found["counts"])) == len(pairs)
    assert found["totals"] == [2, 3]


def test_many_classes_are_ordered_so_that_confused_ones_are_neighbours():
    names = [f"n{number:02}" for number in range(LISTED + 6)]
    half = len(names) // 2
    pairs = [(name, name) for name in names for _ in range(5)]
    pairs += [(first, second) for first, second in zip(names[:half], names[half:], strict=True) for _ in range(4)]
    found = confusion_matrix(pairs)
    assert found["clustered"]
    place = {name: position for position, name in enumerate(found["rows"])}
    assert all(abs(place[a] - place[b]) == 1 for a, b in zip(names[:half], names[half:], strict=True))


def test_of_very_many_classes_the_most_confused_are_shown_and_the_rest_is_counted_as_another_answer():
    names = [f"n{number:03}" for number in range(4 * MOST)]
    pairs = [(name, name) for name in names] + [("n001", "n200"), ("n200", "n001"), ("n001", "n003"), ("n001", "n200")]
    found = confusion_matrix(pairs)
    assert sorted(found["rows"]) == ["n001", "n003", "n200"]
    assert found["classes"] == len(names)
    crowded = [(names[a], names[b]) for a in range(100) for b in range(100) if a != b]
    found = confusion_matrix(crowded)
    assert len(found["rows"]) == MOST
    assert all(sum(line) == total for line, total in zip(found["counts"], found["totals"], strict=True))


def test_nothing_to_show_is_no_matrix():
    assert confusion_matrix([]) is None
    assert confusion_matrix([(f"n{number}", f"n{number}") for number in range(MOST + 1)]) is None


def test_equal_rows_have_an_order():
    assert sorted(clustered_order(np.zeros((4, 4)))) == [0, 1, 2, 3]


def test_a_wrong_answer_that_names_its_own_class_is_not_on_the_diagonal():
    pairs = answered_classes([item("cat", "cat", False), item("dog", "a Cat", False), item("dog", "", None)], None)
    assert pairs == [("cat", OTHER), ("dog", "cat"), ("dog", NO_ANSWER)]
    assert taken_for(pairs) == [("dog", "cat")]


def test_letters_are_counted_where_all_items_have_options():
    options = ("red", "blue")
    scored = [item("A", "A", True, options), item("B", "A", False, options), item("B", "?", None, options)]
    assert answered_letters(scored) == [("A", "A"), ("B", "A"), ("B", NO_ANSWER)]
    assert answered_letters([*scored, item("cat", "cat", True)]) == []
    assert answered_classes(scored, None) == []


def test_the_examples_in_the_docstrings_hold():
    assert doctest.testmod(module).failed == 0
