"""Grading by a model behind an API: the replies are kept in one file, so that nothing is paid for twice.

Each answer is asked about `grading.repeats` times. A reply that cannot be read is asked for once more, with a line
added; an answer with one that still cannot be read is a failure, in no number, and never counts as 0.
"""

import hashlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from configs.errors import ConfigError, RunError
from configs.evaluation import EvalConfig, is_api
from configs.grading import GradingConfig
from data_prep.api.messages import Message
from data_prep.api.question_file import AskedModel, FollowUp, Question, Replies, ask_questions, read_replies
from data_prep.api.reply import Reply
from data_prep.api.spending import Spending
from data_prep.final_answer import final_answer
from eval.graders.judge_prompt import read_prompt
from eval.graders.types import Grade, StoredAnswer
from eval.types import Failure

Value = TypeVar("Value")
SHOWN_REPLY = 60  # characters of a reply that cannot be read
NEW_REQUEST = "a larger grading.judge_tokens, another judge or prompt asks again"
AGAIN = "/again"  # of the id of a question that is asked once more


class ApiGrader(ABC, Generic[Value]):
    """Asks `grading.judge` about every answer; a subclass reads the replies and makes them a grade."""

    outcomes: ClassVar[Sequence[str]] = ()
    uses_question: ClassVar[bool] = True
    name: ClassVar[str]
    repeats: ClassVar[int]
    max_tokens: ClassVar[int]

    def __init__(self, config: EvalConfig | GradingConfig):
        """Read the prompt. Raises `ConfigError` without a judge, or for an unusable prompt."""
        grading = config.grading if isinstance(config, EvalConfig) else config
        if grading.judge is None or not is_api(grading.judge):
            raise ConfigError(
                f"grader {self.name} asks a model behind an API, and grading.judge is {grading.judge!r}; set it to "
                "api:NAME, such as api:gpt-4o, or to a model of your own server"
            )
        self.prompt = read_prompt(self.name, grading.judge_prompt)
        self.times = grading.repeats or self.repeats
        tokens = grading.judge_tokens or self.max_tokens
        self.model = AskedModel(grading.judge.removeprefix("api:"), grading.api, tokens)

    @property
    def about(self) -> str:
        """The rule, the judge and the source of its prompt."""
        times = "once" if self.times == 1 else f"{self.times} times"
        return f"{self.rule()}; {self.model.name} is asked {times} about each answer; prompt: {self.prompt.source}"

    @abstractmethod
    def rule(self) -> str:
        """What makes an answer right, in words."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """The judge, how it is asked, and a digest of the prompt."""
        words = f"{self.prompt.prompt}\n{self.prompt.again}"
        effort = self.model.api.reasoning_effort
        return {
            "judge": self.model.name,
            "repeats": self.times,
            "temperature": self.model.api.temperature,
            "prompt": hashlib.sha256(words.encode()).hexdigest(),
            **({} if effort is None else {"reasoning_effort": effort}),
        }

    def wording(self, answer: StoredAnswer) -> str:
        """The question to the judge."""
        return self.prompt.question(answer)

    @abstractmethod
    def read(self, text: str, *, cut: bool = False) -> Value | None:
        """What a reply says without its reasoning, `cut` at the limit of tokens; None if it cannot be read."""

    @abstractmethod
    def combined(self, values: Sequence[Value], answer: StoredAnswer) -> Grade:
        """The grade of what all replies say."""

    def preview(self, answers: Sequence[StoredAnswer], replies: Path) -> Spending | None:
        """Print how many questions would be asked, and return what that may cost at most; nothing is sent."""
        found = ask_questions(
            replies,
            self._questions(answers),
            self.model,
            name=f"grader {self.name}",
            again=self._may_follow,
            dry_run=True,
        )
        return found.planned

    def grade_with_replies(
        self, answers: Sequence[StoredAnswer], replies: Path
    ) -> Iterator[tuple[StoredAnswer, Grade | Failure]]:
        """The grade of each answer with all its replies; those of a killed or refused grading are kept and used.

        Raises `RunError` where the server refuses all questions, after yielding the grades of what it answered.
        """
        questions = self._questions(answers)
        found, stopped = self._asked(replies, questions, self._may_follow)
        unread = [q for q in questions if (r := found.replies.get(q.id)) and self._value(r) is None]
        if unread and stopped is None:
            later, stopped = self._asked(replies, [self._once_more(question) for question in unread])
            found.replies.update(later.replies)
        for answer in answers:
            texts = [self._reply(found, key) for key in self._keys(answer)]
            if stopped is None or all(isinstance(text, Reply) for text in texts):
                yield answer, self._grade(texts, answer)
        if stopped is not None:
            raise stopped

    def _grade(self, replies: Sequence["Reply | str"], answer: StoredAnswer) -> Grade | Failure:
        values = []
        for reply in replies:
            if isinstance(reply, str):
                return Failure(reply)
            value = self._value(reply)
            if value is None:
                return Failure(f"the judge's reply cannot be read: {reply.text[:SHOWN_REPLY]!r}; {NEW_REQUEST}")
            values.append(value)
        return self.combined(values, answer)

    def _reply(self, found: Replies, key: str) -> "Reply | str":
        """The reply to a question (the second one where the first reply cannot be read), or why there is none."""
        first, second = found.replies.get(key), found.replies.get(key + AGAIN)
        if first is None:
            return found.failures.get(key, "not asked yet")
        return second if second is not None and self._value(first) is None else first

    def _value(self, reply: Reply) -> Value | None:
        """What a reply says; None of a refusal, and of one that ends in its reasoning."""
        text = None if reply.refused else final_answer(reply.text)
        return None if text is None else self.read(text, cut=reply.cut)

    def _keys(self, answer: StoredAnswer) -> list[str]:
        return [f"{answer.id}#{number}" for number in range(1, self.times + 1)]

    def _questions(self, answers: Sequence[StoredAnswer]) -> list[Question]:
        """Each answer's questions: one about every answer, then the second ones, and so on."""
        words = {answer.id: (Message("user", self.wording(answer)),) for answer in answers}
        keys = [self._keys(answer) for answer in answers]
        rounds = (
            [(answer, key[number]) for answer, key in zip(answers, keys, strict=True)] for number in range(self.times)
        )
        return [Question(key, words[answer.id]) for one in rounds for answer, key in one]

    def _once_more(self, question: Question) -> Question:
        (message,) = question.messages
        asked = replace(message, text=f"{message.text}\n{self.prompt.again}")
        return Question(question.id + AGAIN, (asked,))

    def _may_follow(self, question: Question, reply: Reply | None) -> Question | None:
        """The second question after a reply that cannot be read, and after one that is not known yet."""
        return self._once_more(question) if reply is None or self._value(reply) is None else None

    def _asked(
        self, path: Path, questions: Sequence[Question], again: FollowUp | None = None
    ) -> tuple[Replies, RunError | None]:
        """The replies, and the error that ended the asking."""
        try:
            return ask_questions(path, questions, self.model, name=f"grader {self.name}", again=again), None
        except RunError as error:
            requests = {question.id: self.model.request_hash(question) for question in questions}
            return read_replies(path, requests), error


def most_frequent(values: Sequence[str]) -> str:
    """The value that occurs most often; of several, the one that comes first.

    >>> most_frequent(["wrong", "right", "right", "wrong"])
    'wrong'
    """
    return Counter(values).most_common(1)[0][0]
