"""Graders `similarity` and `concepts`: the cosine between an answer and the expected name (arXiv 2503.21851).

A score is no share of correct answers: nothing is counted as right or wrong. An empty answer has score 0.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from configs.evaluation import EvalConfig
from eval.graders.embedding import EMPTY, TOGETHER, Embeddings
from eval.graders.types import Grade, StoredAnswer
from eval.scorers.concepts import concepts


class Similarity:
    """The cosine of the whole answer with the expected name; of several accepted names the highest."""

    outcomes: ClassVar[Sequence[str]] = ()
    uses_question: ClassVar[bool] = False
    name: ClassVar[str] = "similarity"
    about: ClassVar[str] = "the score is the cosine between the sentence embeddings of the answer and of the class name"

    def __init__(self, config: EvalConfig):
        """Raises `ConfigError` if grading.encoder names no folder."""
        self.embeddings = Embeddings(config, self.name)

    @property
    def settings(self) -> Mapping[str, Any]:
        """The encoder."""
        return self.embeddings.settings

    def phrases(self, text: str) -> tuple[str, ...]:
        """The parts of an answer of which the nearest counts."""
        return (text,)

    def grade(self, answers: Sequence[StoredAnswer]) -> Iterator[tuple[StoredAnswer, Grade]]:
        """The highest cosine of a part of the answer with an accepted name."""
        for start in range(0, len(answers), TOGETHER):
            part = answers[start : start + TOGETHER]
            texts = [text for answer in part if answer.text.strip() for text in self.phrases(answer.text)]
            self.embeddings.of([*texts, *(name for answer in part for name in answer.reference.names)])
            yield from ((answer, self._grade(answer)) for answer in part)

    def _grade(self, answer: StoredAnswer) -> Grade:
        if not answer.text.strip():
            return Grade(None, "the answer is empty", 0.0, flags=(EMPTY,))
        phrases, names = self.phrases(answer.text), answer.reference.names
        cosines = self.embeddings.of(phrases) @ self.embeddings.of(names).T
        phrase, name = divmod(int(cosines.argmax()), len(names))
        why = f"{phrases[phrase]!r} and {names[name]!r}"
        return Grade(None, why, float(cosines[phrase, name]), phrases[phrase], self.embeddings.flags(answer.text))


class Concepts(Similarity):
    """The cosine of the concept in the answer that is nearest to the expected name; the whole answer is one, too."""

    name = "concepts"
    about = (
        "the score is the highest cosine between the class name and a noun phrase of the answer, or the whole answer, "
        "as sentence embeddings"
    )

    def phrases(self, text: str) -> tuple[str, ...]:
        """The noun phrases and the whole answer."""
        return tuple(dict.fromkeys((*concepts(text), text)))
