"""Bucket sizes and overlap follow from what is trained; a user's file wins."""

import pytest

from configs.gradient_buckets import described, gradient_buckets, with_buckets


@pytest.mark.parametrize(
    ("trained", "world", "stage", "elements", "overlap", "reason"),
    [
        (21_000_000, 8, 2, 21_000_000, False, "1 bucket of 21 M trained weights, full at the end"),
        (340_000_000, 8, 2, 50_000_000, True, "7 buckets of 50 M trained weights, reduced while"),
        (340_000_000, 8, 3, 50_000_000, True, "7 buckets"),
        (7_000_000_000, 8, 3, 200_000_000, True, "35 buckets of 200 M"),
        (1_000_000_000, 2, 1, 125_000_000, True, "8 buckets of 125 M"),
        (340_000_000, 1, 2, 50_000_000, False, "one rank"),
        (340_000_000, 8, 0, 50_000_000, False, "after the backward pass (ZeRO 0)"),
        (1, 2, 1, 1, False, "1 bucket"),
    ],
)
def test_several_buckets_overlap_and_one_does_not(trained, world, stage, elements, overlap, reason):
    chosen = gradient_buckets(trained, world, stage)
    assert (chosen.elements, chosen.overlap) == (elements, overlap)
    assert reason in chosen.reason


def test_the_values_of_a_users_file_stay():
    settings = {"zero_optimization": {"stage": 2, "overlap_comm": False}}
    made = with_buckets(settings, 340_000_000, 8)["zero_optimization"]
    assert made == {
        "stage": 2,
        "overlap_comm": False,
        "reduce_bucket_size": 50_000_000,
        "allgather_bucket_size": 50_000_000,
    }
    assert settings == {"zero_optimization": {"stage": 2, "overlap_comm": False}}, "not changed in place"
    assert described(settings, 340_000_000, 8) == "overlap_comm false from deepspeed.base"


def test_without_zero_nothing_is_set():
    assert with_buckets({"zero_optimization": {"stage": 0}}, 5, 8) == {"zero_optimization": {"stage": 0}}
