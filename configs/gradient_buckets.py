"""How gradients are exchanged between ranks: the size of DeepSpeed's buckets, and overlap with the backward pass.

    buckets = gradient_buckets(trained=340_000_000, world=8, stage=2)     # 50 M weights each, overlapping

ZeRO 1 to 3 copy gradients into a bucket in the order of the backward pass and reduce it when the next gradient does not
fit (DeepSpeed 0.19.8, `runtime/zero/stage_1_and_2.py`). With `overlap_comm` that happens on a second stream with a
second buffer, while the backward pass continues; a bucket that holds all gradients is full at the end only, so there is
nothing to overlap. The buffers are allocated whole, so a bucket is no larger than what is trained.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from configs.deepspeed_file import ZERO

SMALLEST, LARGEST = 50_000_000, 200_000_000  # elements: 100 and 400 MB in bf16, enough to use the links' bandwidth
BUCKETS = 8  # at least, where the sizes above allow it: the last one alone is not hidden behind the backward pass


@dataclass(frozen=True)
class GradientBuckets:
    """Elements of a bucket, whether its reduction overlaps with the backward pass, and why, for people."""

    elements: int
    overlap: bool
    reason: str


def gradient_buckets(trained: int, world: int, stage: int) -> GradientBuckets:
    """The choice for `trained` weights on `world` ranks in ZeRO `stage`."""
    elements = min(max(trained, 1), max(SMALLEST, min(LARGEST, -(-trained // BUCKETS))))
    count = -(-trained // elements)
    size = f"{count} bucket{'s' * (count != 1)} of {elements / 1e6:,.3g} M trained weights"
    if world == 1:
        return GradientBuckets(elements, False, "one rank: gradients are not exchanged")
    if stage == 0:
        return GradientBuckets(elements, False, "summed over the ranks after the backward pass (ZeRO 0)")
    if count == 1:
        return GradientBuckets(elements, False, f"{size}, full at the end of the backward pass: nothing to overlap")
    return GradientBuckets(elements, True, f"{size}, reduced while the backward pass continues")


def with_buckets(settings: Mapping[str, Any], trained: int, world: int) -> dict[str, Any]:
    """DeepSpeed's `settings` with the choice where a file of the user's has not made it."""
    zero = dict(settings[ZERO])
    if zero["stage"]:
        chosen = gradient_buckets(trained, world, zero["stage"])
        zero.setdefault("reduce_bucket_size", chosen.elements)
        zero.setdefault("allgather_bucket_size", chosen.elements)
        zero.setdefault("overlap_comm", chosen.overlap)
    return dict(settings) | {ZERO: zero}


def described(settings: Mapping[str, Any], trained: int, world: int) -> str:
    """The choice in one line; what a file of the user's sets is named as that."""
    chosen = gradient_buckets(trained, world, settings[ZERO]["stage"])
    theirs = [
        f"{key} {str(settings[ZERO][key]).lower()}"
        for key in ("reduce_bucket_size", "overlap_comm")
        if key in settings[ZERO]
    ]
    return f"{', '.join(theirs)} from deepspeed.base" if theirs else chosen.reason
