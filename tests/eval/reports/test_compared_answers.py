"""Any two models tested over the items of both, and what differs from the first one."""

import doctest
import itertools

import pytest

from data_prep.page import Folded, Page
from data_prep.page_charts import close_ticks
from data_prep.seed_statistics import holm
from eval.metrics import paired
from eval.reports import comparison_blocks
from eval.reports.compared_answers import ComparedAnswer, changes, changes_from_first, pairwise_tests
from eval.reports.comparison_blocks import SHOWN_ITEMS, accuracy_chart, change_blocks, pair_blocks


def answers(**outcomes: str) -> dict[str, ComparedAnswer]:
    """Item id to an answer; ids that begin with c are cats."""
    return {
        name: ComparedAnswer(outcome, f"says {outcome}", "cat" if name[0] == "c" else "dog", None)
        for name, outcome in outcomes.items()
    }


def report(data: str = "d") -> dict:
    return {"protocol": {"data": data}}


def many(right: int, total: int = 30) -> dict[str, ComparedAnswer]:
    return {
        f"i{number:02}": ComparedAnswer("right" if number < right else "wrong", "a", "cat", f"class {number % 3}")
        for number in range(total)
    }


def test_any_two_models_are_tested_and_adjusted_for_the_number_of_tests():
    given = {"a": many(5), "b": many(15), "c": many(16)}
    found = pairwise_tests(dict.fromkeys(given, report()), given)
    assert [(pair["first"], pair["second"]) for pair in found] == [*itertools.combinations("abc", 2)]
    assert [pair["second_only"] for pair in found] == [10, 11, 1]
    assert found[1]["p_adjusted"] == pytest.approx(3 * found[1]["p_value"])
    assert found[0]["p_adjusted"] == pytest.approx(2 * found[0]["p_value"])
    assert found[2]["p_adjusted"] == found[2]["p_value"] == 1.0


def test_models_of_other_items_or_without_stored_answers_are_not_tested():
    given = {"a": many(5), "b": many(15), "elsewhere": None, "other": many(9)}
    reports = {"a": report(), "b": report(), "elsewhere": report(), "other": report("e")}
    assert [(pair["first"], pair["second"]) for pair in pairwise_tests(reports, given)] == [("a", "b")]
    models = {name: {"open": values} for name, values in reports.items()}
    assert list(changes_from_first(models, "open", given)) == ["b"]
    assert changes_from_first({"gone": {}, **models}, "open", given) == {}


def test_an_item_that_is_no_longer_correct_is_lost_whatever_the_other_outcome_is():
    first = answers(c1="right", c2="right", d1="wrong", d2="no answer", d3="right", gone="right")
    second = answers(c1="wrong", c2="no answer", d1="right", d2="right", d3="right", new="right")
    found = changes(first, second)
    assert (found["lost"], found["gained"]) == (2, 2)
    assert {item["id"]: item["change"] for item in found["items"]} == {
        "c1": "lost", "c2": "lost", "d1": "gained", "d2": "gained"
    }  # fmt: skip
    lost = next(item for item in found["items"] if item["id"] == "c2")
    assert (lost["first_answer"], lost["second_answer"]) == ("says right", "says no answer")


def test_classes_are_ordered_by_their_gain_and_have_their_number_of_items():
    first = {"1": ComparedAnswer("right", "", "x", "cat"), "2": ComparedAnswer("wrong", "", "x", "dog")}
    second = {"1": ComparedAnswer("wrong", "", "x", "cat"), "2": ComparedAnswer("right", "", "x", "dog")}
    rows = changes(first, second)["classes"]
    assert [(row["class"], row["difference"], row["items"]) for row in rows] == [("dog", 1.0, 1), ("cat", -1.0, 1)]


def test_the_page_shows_at_most_some_changed_items_and_says_how_many_there_are():
    blocks = change_blocks({"open": {"mix@1": changes(many(0, 90), many(70, 90))}}, "base")
    folded = next(block for block in blocks if isinstance(block, Folded))
    assert folded.summary == "open, mix, seed 1: 0 items lost, 70 gained"
    page = Page("T", blocks).html()
    assert page.count('class="tile good"') == SHOWN_ITEMS
    assert f"{SHOWN_ITEMS} of 70 changed items" in page
    assert "base, wrong:" in page and "mix, seed 1, right:" in page


def test_one_pair_alone_is_in_the_main_table_only():
    given = {"a": many(5), "b": many(15), "c": many(16)}
    pairs = pairwise_tests(dict.fromkeys(given, report()), given)
    assert pair_blocks({"open": pairs[:1]}) == []
    text = Page("T", pair_blocks({"open": pairs})).markdown()
    assert "| a | c | +36.7 |" in text
    assert "adjusted for the 3 tests" in text


def test_a_model_without_an_answered_item_has_a_text_and_no_dot():
    rate = {"value": 0.5, "low": 0.4, "high": 0.6}
    none = {"value": None, "low": None, "high": None}
    rows = {"a": {"open": {"accuracy": rate}}, "b": {"open": {"accuracy": none}}, "c": {}}
    page = Page("T", accuracy_chart(rows, "open")).html()
    assert page.count('class="dot"') == 1
    assert "no item answered" in page
    assert accuracy_chart({"b": {"open": {"accuracy": none}}}, "open") == []


@pytest.mark.parametrize(("low", "high"), [(0, 0), (1, 1), (0.5, 0.5), (0.0, 1.0), (0.2, 0.45), (0.31, 0.99)])
def test_every_interval_lies_on_its_axis(low, high):
    values = [value for value, _ in close_ticks(low, high)]
    assert 0 <= values[0] <= low <= high <= values[-1] <= 1
    assert 4 <= len(values) <= 7
    assert values[-1] - values[0] > 0.19


def test_adjusted_p_values_never_fall_and_never_exceed_one():
    assert holm([]) == []
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([0.001, 0.02, 0.02]) == [0.003, 0.04, 0.04]


def test_the_examples_in_the_docstrings_hold():
    assert doctest.testmod(comparison_blocks).failed == doctest.testmod(paired).failed == 0
