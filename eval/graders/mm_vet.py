"""MM-Vet's grader (arXiv 2308.02490): a language model gives each answer 0.0 to 1.0 in tenths, several times.

The published evaluator asks gpt-4-0613 five times at temperature 0. Where it cannot read a reply it asks up to five
times more, each warmer, and then writes 0.0; here such an answer is a failure.
"""

import re
from collections.abc import Sequence
from statistics import fmean
from typing import ClassVar

from eval.graders.api_grader import ApiGrader
from eval.graders.types import Grade, StoredAnswer

NUMBER = re.compile(r"\s*[|*]*\s*(?:correctness|score)?\s*:?\s*[|*]*\s*(\d(?:\.\d+)?)(?![\d/%]|[.,]\d)", re.IGNORECASE)
TENTHS = 10


class MMVet(ApiGrader[float]):
    """A number from 0 to 1; `extracted` keeps the single gradings."""

    outcomes: ClassVar[Sequence[str]] = ()
    name = "mm_vet"
    repeats = 5
    max_tokens = 3

    def rule(self) -> str:
        """How an answer is graded."""
        return "MM-Vet's correctness, 0 to 1 in tenths, the mean of all gradings"

    def wording(self, answer: StoredAnswer) -> str:
        """The published table with one more line; parts and alternatives of the answer stand apart."""
        target = answer.reference.target.replace("<AND>", " <AND> ").replace("<OR>", " <OR> ")
        return f"{self.prompt.question(answer, target=target)} "

    def read(self, text: str, *, cut: bool = False) -> float | None:
        """The number at the beginning of a reply, to the nearest tenth; None for another one or none.

        None also of a number whose decimals may have been cut off, as in "0.".
        """
        found = NUMBER.match(text)
        if found is None or (value := float(found[1])) > 1:
            return None
        unfinished = cut and "." not in found[1] and text[found.end() :].strip() in ("", ".")
        return None if unfinished else round(value * TENTHS) / TENTHS

    def combined(self, values: Sequence[float], answer: StoredAnswer) -> Grade:  # noqa: ARG002
        """The mean of the gradings."""
        listed = " ".join(f"{value:.1f}" for value in values)
        return Grade(None, f"gradings: {listed}", score=fmean(values), extracted=listed)
