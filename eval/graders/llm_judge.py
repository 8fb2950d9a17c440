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
WORDS = re.compile(r"\b(right|too general|several|wrong|no answer)\b")
CHOSEN = re.compile(r"[\W_]*(?:answer|choice|verdict|decision)?[\W_]*(right|too general|several|wrong|no answer)\b")


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

    def read(self, text: str) -> str | None:
        """The outcome that begins a reply, or the only one it names; None for several or none."""
        words = text.lower().replace("-", " ")
        chosen, found = CHOSEN.match(words), set(WORDS.findall(words))
        if chosen is not None:
            return chosen[1]
        return found.pop() if len(found) == 1 else None

    def combined(self, values: Sequence[str], answer: StoredAnswer) -> Grade:  # noqa: ARG002
        """The most frequent outcome, with a flag where the replies differ."""
        flags = ("replies differ",) if len(set(values)) > 1 else ()
        return Grade(most_frequent(values), f"the judge says: {', '.join(values)}", flags=flags)
