"""A language model as judge of open-world answers (arXiv 2503.21851): does the answer name the right class?

How far its outcomes agree with a person's is measured by `eval.judge_agreement` on labelled answers.
"""

import re
from collections.abc import Sequence
from typing import ClassVar

from eval.graders.api_grader import ApiGrader, most_frequent
from eval.graders.types import NO_ANSWER, RIGHT, WRONG, Grade, StoredAnswer

TOO_GENERAL, SEVERAL = "too general", "several"
OUTCOMES = (RIGHT, TOO_GENERAL, SEVERAL, WRONG, NO_ANSWER)
NAMES = "right|too general|several|wrong|no answer"
WORDS = re.compile(rf"\b({NAMES})\b(?! (?:class|hand|side)\b)")
CHOSEN = re.compile(
    rf"[\W_]*(?:answer|choice|verdict|decision)?[\W_]*({NAMES})\b"
    rf"(?! (?:class|hand|side)\b| ?(?:or|and|/) ?(?:{NAMES})\b)"
)
NEGATED = re.compile(r"(?:\bnot|n't|\bneither|\bnor|\bnever|\bcannot)(?: \w+){0,2} $")
"""What before an outcome says that it is not meant: "not quite right"."""


class LLMJudge(ApiGrader[str]):
    """One of `OUTCOMES`; of several replies the most frequent one."""

    outcomes: ClassVar[Sequence[str]] = OUTCOMES
    name = "llm_judge"
    repeats = 1
    max_tokens = 16

    def rule(self) -> str:
        """What is right."""
        return "right if a language model says that the answer names the class, by any of its names"

    def wording(self, answer: StoredAnswer) -> str:
        """The answer in one line, as the choices that follow it are lines."""
        return self.prompt.question(answer, answer=" ".join(answer.text.split()) or "(empty)")

    def read(self, text: str, *, cut: bool = False) -> str | None:
        """The outcome that begins a reply, or the only one it names; None for several, none, or one that it negates.

        In a reply that was cut off only the outcome that begins it counts.
        """
        words = " ".join(text.lower().replace("-", " ").replace("’", "'").split())
        if (chosen := CHOSEN.match(words)) is not None:
            return chosen[1]
        named = list(WORDS.finditer(words))
        if cut or any(NEGATED.search(words[: one.start()]) for one in named):
            return None
        found = {one[1] for one in named}
        return found.pop() if len(found) == 1 else None

    def combined(self, values: Sequence[str], answer: StoredAnswer) -> Grade:  # noqa: ARG002
        """The most frequent outcome, with a flag where the replies differ."""
        flags = ("replies differ",) if len(set(values)) > 1 else ()
        return Grade(most_frequent(values), f"the judge says: {', '.join(values)}", flags=flags)
