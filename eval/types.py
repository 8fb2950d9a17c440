"""What the runner needs of whoever it asks: a loaded model, a CLIP, a model behind an API.

A `Respondent` is opened once (`eval.models.factory`) and makes an `Answerer` for an evaluation. Most answerers
answer a batch together; one that is a `Stream` answers each question by itself, whenever it is done, and may fail at
some.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch

from configs.errors import RunError
from configs.evaluation import EvalConfig
from configs.run_dir import EvalDir
from data_prep.sample import Turn

NOT_FINITE = "the model's output is not finite: set dtype=fp32, and let nothing write to its weights meanwhile"


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model said. `tokens` holds the ids, the end token included if it came; `seconds` is a share.

    `scores` are those of all class names, where they were scored, `probabilities` those of the paper's words
    (`eval.class_scores.table`).
    """

    text: str
    tokens: list[int]
    stopped: bool
    seconds: float
    scores: str | None = None
    probabilities: str | None = None


@dataclass(frozen=True, slots=True)
class Unanswered:
    """A question that was asked and got no answer, and why: the item is counted as failed, never scored."""

    reason: str


@contextmanager
def within_memory(number: int, what: str) -> Iterator[None]:
    """Raises `RunError` that names `batch_size` where the device has not enough memory for `number` of `what`."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise RunError(
            f"the device has not enough memory for {number} {what} at a time; lower batch_size to {max(1, number // 2)}"
        ) from error


class Answerer(Protocol):
    """Turns questions into prompts and prompts into answers. What a prompt is, only the answerer knows."""

    def prompt(self, turns: Sequence[Turn], image: bytes | None) -> Any:
        """The question as it is put; its `asked` is a hash of it. Raises `DataError` if it cannot be put."""
        ...

    def answer(self, prompts: Sequence[Any]) -> Sequence[Answer | Unanswered]:
        """Answers to all prompts, in their order."""
        ...


@runtime_checkable
class Stream(Protocol):
    """An answerer whose answers do not depend on what is asked beside them."""

    def begin(self, questions: int) -> None:
        """Say what is about to happen: so many questions are not answered yet."""
        ...

    def answers(self, prompts: Sequence[Any]) -> Iterator[tuple[int, Answer | Unanswered]]:
        """(number of the prompt, its answer) as they come."""
        ...


class Respondent(Protocol):
    """A model that can be asked."""

    identity: str
    """Names its weights, or what stands for them."""
    answer_mark: str
    """The text behind which the authors' code looks for this model's answer (protocol.after_last `official`)."""
    pads_right: bool
    """Whether this model's folder pads on the right (protocol.padding_side `processor`)."""

    def answerer(self, config: EvalConfig, folder: EvalDir) -> Answerer:
        """Who answers the questions of `config`. Raises `ConfigError` if it cannot be asked under that protocol."""
        ...
