"""The types of graders: a stored answer, its grade, and what a grader must do. Imports no torch.

    grader.grade(answers) -> (StoredAnswer, Grade | Failure) for each of them     eval.graders.registry

A grader never sees the model or the image: it grades the texts that are stored in an evaluation's folder.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from data_prep.api.spending import Spending
from eval.types import Failure, Prediction, Reference

RIGHT = "right"
WRONG = "wrong"
NO_ANSWER = "no answer"
OUTCOMES = (RIGHT, WRONG, NO_ANSWER)
"""The outcomes of most graders. An answer is correct if its outcome is `RIGHT`."""


@dataclass(frozen=True)
class StoredAnswer:
    """An answer as graders see it.

    `text` is the part of the answer that the protocol scores, or the best class name where all names were scored.
    `question` is the question's text, for graders with `uses_question`; it is empty for others.
    """

    prediction: Prediction
    text: str
    reference: Reference
    question: str = ""

    @property
    def id(self) -> str:
        """The item's id."""
        return self.prediction.id

    @cached_property
    def digest(self) -> str:
        """Identifies what is graded: prompt, answer, expected names, and all classes; 16 hexadecimal digits."""
        reference = self.reference
        values = [self.prediction.prompt_hash, self.text, reference.target, reference.names, reference.choices]
        values += [reference.labels, _digest_of(reference.classes)]
        return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16]


@lru_cache(maxsize=8)
def _digest_of(classes: tuple[str, ...]) -> str:
    return hashlib.sha256(json.dumps(classes).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Grade:
    """The grade of an answer.

    `outcome` is one of the grader's `outcomes`; None where a grader gives a number only. `score` is a number from 0 to
    1 (a cosine: from -1); None where there is none. `extracted` is what was graded in the answer, such as the class
    that it was mapped to. `flags` are facts that a report counts, such as "off-list".
    """

    outcome: str | None
    why: str
    score: float | None = None
    extracted: str | None = None
    flags: tuple[str, ...] = ()


class Grader(Protocol):
    """Grades stored answers. A class with these names; it is made by `(config: EvalConfig)`.

    Making it reads small files at most, so that a dry run is fast: weights are loaded, and requests are sent, by the
    first `grade`.
    """

    outcomes: Sequence[str]
    """The outcomes it gives, in the order of a report; none if it gives scores only."""
    uses_question: bool
    """Whether it needs the questions' texts, which are read from the shards."""

    @property
    def about(self) -> str:
        """The rule in one sentence, for the report."""
        ...

    @property
    def settings(self) -> Mapping[str, Any]:
        """All that changes a grade (settings, digests of files and weights), as JSON can hold it."""
        ...

    def grade(self, answers: Sequence[StoredAnswer]) -> Iterator[tuple[StoredAnswer, Grade | Failure]]:
        """The grade of each answer, as soon as it is known and in any order; a failure is graded again next time."""
        ...


@runtime_checkable
class AskingGrader(Protocol):
    """A grader that asks a model behind an API; it has these in place of `grade`."""

    def grade_with_replies(
        self, answers: Sequence[StoredAnswer], replies: Path
    ) -> Iterator[tuple[StoredAnswer, Grade | Failure]]:
        """As `Grader.grade`; the model's replies are kept in the file `replies`."""
        ...

    def preview(self, answers: Sequence[StoredAnswer], replies: Path) -> Spending | None:
        """Print how many questions would be asked, and return what that may cost at most."""
        ...
