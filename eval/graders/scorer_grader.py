"""Scorers of open questions as graders, so that one stored evaluation has a row for each rule."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from configs.evaluation import EvalConfig
from eval.graders.types import NO_ANSWER, OUTCOMES, RIGHT, WRONG, Grade, StoredAnswer
from eval.scorers.registry import find_scorer

OUTCOME_OF = {True: RIGHT, False: WRONG, None: NO_ANSWER}


class ScorerGrader:
    """Grades by the scorer `scorer` of eval/scorers/registry.py; the accepted names are the protocol's."""

    outcomes: ClassVar[Sequence[str]] = OUTCOMES
    uses_question: ClassVar[bool] = False
    scorer: ClassVar[str]
    about: ClassVar[str]

    def __init__(self, config: EvalConfig):  # noqa: ARG002
        """Look up the scorer."""
        self._score = find_scorer(self.scorer, "grader")

    @property
    def settings(self) -> Mapping[str, Any]:
        """The scorer's name: it has no settings."""
        return {"scorer": self.scorer}

    def grade(self, answers: Sequence[StoredAnswer]) -> Iterator[tuple[StoredAnswer, Grade]]:
        """The scorer's value as an outcome, with its reason."""
        for answer in answers:
            score = self._score(answer.text, answer.reference)
            yield answer, Grade(OUTCOME_OF[score.value], score.reason, extracted=score.extracted)


class Contains(ScorerGrader):
    """Text inclusion, the paper's rule."""

    scorer = "contains"
    about = "right if an accepted name occurs anywhere in the answer, also inside a longer word"


class Word(ScorerGrader):
    """Inclusion of whole words."""

    scorer = "word"
    about = "right if an accepted name occurs in the answer as whole words"


class Exact(ScorerGrader):
    """The whole answer."""

    scorer = "exact"
    about = "right if the answer equals an accepted name except for case and surrounding white space"


class Name(ScorerGrader):
    """Class names as a reader finds them."""

    scorer = "name"
    about = "right if the answer names this class only, by an accepted name in any usual spelling and not negated"
