"""Numbers of questions that share images, on tables counted by hand."""

import numpy as np
import pytest

from eval.metrics.accuracy import wilson
from eval.metrics.bootstrap import bounded, group_sums, ratio, resampled
from eval.metrics.kappa import agreement_of
from eval.metrics.question_metrics import mean_points, outcome_shares, yes_no_numbers
from eval.types import Score
from tests.eval.stored_answers import stored_answer


def scored(*items: tuple[str, str, str | None], credit: float | None = None):
    """(image, target, what the answer says) of every question."""
    return [
        (
            stored_answer(f"{image}/{number}", "", target, label=None, label_name=None, group=image),
            Score(None if said is None else said == target, said, "", credit),
        )
        for number, (image, target, said) in enumerate(items)
    ]


def test_precision_recall_f1_and_share_of_yes_of_eight_answers():
    numbers = yes_no_numbers(
        scored(
            ("a", "yes", "yes"), ("a", "yes", "yes"), ("a", "yes", "no"), ("b", "yes", None),
            ("b", "no", "yes"), ("b", "no", "no"), ("c", "no", "no"), ("c", "no", None),
        )
    )  # fmt: skip
    assert {name: number["value"] for name, number in numbers.items()} == {
        "precision": pytest.approx(2 / 3), "recall": 0.5, "f1": pytest.approx(4 / 7), "yes_ratio": 3 / 8,
    }  # fmt: skip
    cells = [numbers["f1"][name] for name in ("true_yes", "false_yes", "true_no", "missed_yes")]
    assert cells == [2, 1, 2, 2]  # an answer that says neither to a question whose answer is no is in no cell
    assert all(number["low"] <= number["value"] <= number["high"] for number in numbers.values())


def test_a_number_without_a_denominator_is_none():
    numbers = yes_no_numbers(scored(("a", "no", "no"), ("b", "no", "no")))
    assert [numbers[name]["value"] for name in ("precision", "recall", "f1")] == [None] * 3
    assert numbers["yes_ratio"]["value"] == 0.0


def test_answers_of_one_image_are_drawn_together():
    apart = mean_points(scored(*((str(n), "yes", "yes" if n < 20 else "no") for n in range(40))))
    together = mean_points(scored(*((str(n // 10), "yes", "yes" if n < 20 else "no") for n in range(40))))
    assert apart["value"] == together["value"] == 0.5
    assert (apart["groups"], together["interval"]) == (40, "bootstrap over 4 images")
    assert (together["low"], together["high"]) == (0.0, 1.0)
    assert 0.3 < apart["low"] < 0.4 < 0.6 < apart["high"] < 0.7  # normal theory: 0.345 to 0.655


def test_all_shares_of_one_report_have_one_kind_of_interval():
    items = scored(*((str(n // 10), "yes", "yes" if n < 20 else "no" if n < 30 else None) for n in range(40)))
    by_image, apart = outcome_shares("yes_no", items), outcome_shares("open_world", items)
    for name, (count, total) in {"wrong": (10, 40), "no_answer": (10, 40), "accuracy_of_answers": (20, 30)}.items():
        assert (
            (by_image[name]["count"], by_image[name]["n"]) == (apart[name]["count"], apart[name]["n"]) == (count, total)
        )
        assert by_image[name]["interval"] == mean_points(items)["interval"] == "bootstrap over 4 images"
        assert by_image[name]["low"] == 0.0, "of four images none may have it"
        assert (apart[name]["low"], apart[name]["high"]) == wilson(count, total)
    nothing = outcome_shares("yes_no", scored(("a", "yes", None), ("b", "no", None)))
    assert nothing["accuracy_of_answers"]["value"] is None
    assert outcome_shares("yes_no", [])["wrong"]["value"] is None


def test_the_mean_is_that_of_the_credits():
    found = mean_points(scored(("a", "x", "y"), ("b", "x", "y"), credit=0.3))
    assert (found["value"], found["count"], found["n"]) == (pytest.approx(0.3), 0.6, 2)


def test_one_image_tells_nothing_of_others_and_none_has_no_mean():
    one = mean_points(scored(("a", "x", "x"), ("a", "x", "x")))
    assert (one["value"], one["low"], one["high"], mean_points([])["value"]) == (1.0, 0.0, 1.0, None)
    assert resampled(group_sums([]), lambda total: total[:, 0]) == (None, None)


def test_the_interval_is_the_same_on_every_call():
    sums = np.array([[number % 3, 2.0] for number in range(30)])
    assert resampled(sums, lambda total: ratio(total[:, 0], total[:, 1])) == resampled(
        sums, lambda total: ratio(total[:, 0], total[:, 1])
    )


def test_a_number_that_is_the_same_on_all_images_has_an_interval_of_some_width():
    """The draws of 24 images that are all right are all right; Wilson's interval of 24 of 24 is 86 to 100 %."""
    right = mean_points(scored(*((str(n), "yes", "yes") for n in range(24))))
    assert (right["low"], right["high"]) == (pytest.approx(wilson(24, 24)[0]), 1.0)
    wrong = mean_points(scored(*((str(n), "yes", "no") for n in range(24))))
    assert (wrong["low"], wrong["high"]) == (0.0, pytest.approx(wilson(0, 24)[1]))
    half = mean_points(scored(*((str(n), "yes", "no") for n in range(24)), credit=0.5))
    assert half["low"] == pytest.approx(0.5 - 0.5 * wilson(0, 24)[1]) == pytest.approx(1 - half["high"])


def test_images_on_which_a_number_is_not_defined_make_its_interval_no_narrower():
    """Two of 40 images have an answer yes: precision rests on these two."""
    numbers = yes_no_numbers(scored(*((str(n), "yes", "yes" if n < 2 else "no") for n in range(40))))
    assert numbers["precision"]["value"] == 1.0
    assert numbers["precision"]["low"] == pytest.approx(wilson(2, 2)[0])
    one = yes_no_numbers(scored(*((str(n), "yes", "yes" if n < 1 else "no") for n in range(40))))
    assert (one["precision"]["low"], one["precision"]["high"]) == (0.0, 1.0)


def test_a_difference_that_is_the_same_on_all_images_is_not_certain():
    low, high = bounded(np.array([[1.0, 1.0]] * 10), lambda total: ratio(total[:, 0], total[:, 1]), least=-1.0)
    assert (low, high) == (pytest.approx(1 - 2 * wilson(0, 10)[1]), 1.0)


def test_kappa_of_raters_who_always_agree_has_no_interval_and_that_of_constant_ones_no_value():
    found = agreement_of(["a", "b", "a"], ["a", "b", "a"])
    assert found["kappa"] == {"value": 1.0, "low": None, "high": None}
    assert found["rate"]["low"] == pytest.approx(wilson(3, 3)[0])
    assert agreement_of(["a", "a"], ["b", "b"])["kappa"]["value"] == 0.0
    assert agreement_of([], [])["kappa"]["value"] is agreement_of([], [])["rate"]["value"] is None
