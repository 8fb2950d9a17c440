"""Numbers of questions that share images, on tables counted by hand."""

import numpy as np
import pytest

from eval.metrics.bootstrap import group_sums, ratio, resampled
from eval.metrics.question_metrics import mean_points, yes_no_numbers
from eval.types import Prediction, Score


def scored(*items: tuple[str, str, str | None], credit: float | None = None):
    """(image, target, what the answer says) of every question."""
    return [
        (
            Prediction(
                id=f"{image}/{number}", prompt_hash="0", target=target, label=None, label_name=None, answer="",
                num_tokens=1, stopped=True, seconds=0.0, group=image,
            ),
            Score(None if said is None else said == target, said, "", credit),
        )
        for number, (image, target, said) in enumerate(items)
    ]  # fmt: skip


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
