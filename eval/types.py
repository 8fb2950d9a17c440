"""The types that all of `eval` shares: question, answer, stored prediction, score, and what a model and a task must do.

    task.question(sample) -> Question          eval.tasks
    predictor.prompt(turns, image) -> prompt   eval.models
    predictor.predict(prompts) -> Answer | Failure
    task.score(prediction) -> Score            eval.tasks with eval.scorers

An `EvalModel` is loaded once (`eval.models.factory`) and makes one `Predictor` for each evaluation. This module
imports nothing of `eval`, and no torch.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from configs.eval_dir import EvalDir
from configs.evaluation import EvalConfig
from data_prep.sample import Sample, Turn


@dataclass(frozen=True, slots=True)
class ItemIndex:
    """An item's `index` in its source, which has `total` items."""

    index: int
    total: int


@dataclass(frozen=True, slots=True)
class Question:
    """What a task asks about one item.

    `turns` end with the human's. `target` is the expected answer: a class name or an option's letter. `choices` are
    the texts of options A, B, C, ... (empty for an open question). `item_index` is the item's, where a random stream
    over all items of the source draws the candidates. `references` are the answers of several people, where the score
    counts how many of them agree. `group` names the image that several questions share.
    """

    turns: tuple[Turn, ...]
    target: str
    choices: tuple[str, ...] = ()
    item_index: ItemIndex | None = None
    references: tuple[str, ...] | None = None
    group: str | None = None

    @property
    def text(self) -> str:
        """The last turn without the image's placeholder; empty where nothing is asked, as of an image encoder."""
        return self.turns[-1].words if self.turns else ""


@dataclass(frozen=True, slots=True)
class Reference:
    """What a scorer compares an answer with.

    `target` is the expected answer; `names` are all accepted class names, the target first; `choices` are the texts of
    options A, B, C, ..., of which `target` is the correct letter. `classes` are the names of all classes, by which a
    scorer recognizes an answer that names several. `labels` are the classes that are right, by their class names.
    """

    target: str
    names: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Without `names` or `labels` the target is the only accepted one."""
        if not self.names:
            object.__setattr__(self, "names", (self.target,))
        if not self.labels:
            object.__setattr__(self, "labels", (self.target,))


@dataclass(frozen=True, slots=True)
class Answer:
    """A model's output for one question.

    `token_ids` are the generated ids, the end token included; `stopped` is False where the length limit cut the answer;
    `seconds` is the question's share of its batch's time. `prefix` is the answer prefix that the text continues, with
    the blanks between the two. Where all class names were scored, `scores` holds their
    log-probabilities and `probabilities` their summed token probabilities, encoded by `eval.class_scores.table`.
    """

    text: str
    token_ids: list[int]
    stopped: bool
    seconds: float
    scores: str | None = None
    probabilities: str | None = None
    prefix: str | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """A model gave no answer to a question, and why. The item is counted as failed and never scored."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """One item's answer, as it is stored: one JSON line (`eval.runner.predictions`).

    `prompt_hash` is a hash of the prompt's token ids. `target`, `choices`, `item_index`, `references` and
    `group` are the question's.
    `label` and `label_name` are the class that the item counts for. `num_tokens` is the answer's length in tokens, its
    end token included. The other fields are the answer's.
    """

    id: str
    prompt_hash: str
    target: str
    label: int | None
    label_name: str | None
    choices: tuple[str, ...] = ()
    answer: str
    num_tokens: int
    stopped: bool
    seconds: float
    scores: str | None = None
    probabilities: str | None = None
    item_index: ItemIndex | None = None
    prefix: str | None = None
    references: tuple[str, ...] | None = None
    group: str | None = None


@dataclass(frozen=True, slots=True)
class FailedItem:
    """An item without an answer, as it is stored: its data is broken or the model failed. Counted, never scored.

    If the item cannot be read, its id is `eval.runner.predictions.unreadable_id`. `item_index` is stored as a
    prediction's.
    """

    id: str
    reason: str
    item_index: ItemIndex | None = None


@dataclass(frozen=True, slots=True)
class Score:
    """The score of an answer: `value` is True for correct, False for wrong, None for no answer.

    `extracted` is the part of the answer that was scored; `reason` says where it was found, or why it was not found.
    `credit`, 0 to 1, is the part of a point that a scorer with partial credit gives; an answer with some is correct.
    """

    value: bool | None
    extracted: str | None
    reason: str
    credit: float | None = None

    @property
    def points(self) -> float:
        """The credit; of a scorer without partial credit, 1 for a correct answer and 0 for any other."""
        return float(self.value is True) if self.credit is None else self.credit

    @property
    def points_if_answered(self) -> float | None:
        """The points; None without an answer."""
        return None if self.value is None else self.points


class Predictor(Protocol):
    """Renders questions as prompts and predicts answers to them. Only the predictor knows what a prompt is."""

    def prompt(self, turns: Sequence[Turn], image: bytes | None) -> Any:
        """The prompt; its attribute `prompt_hash` identifies it. Raises `DataError` for a question it cannot render."""
        ...

    def predict(self, prompts: Sequence[Any]) -> Sequence[Answer | Failure]:
        """Answers to all prompts, in their order."""
        ...


@runtime_checkable
class StreamingPredictor(Protocol):
    """A predictor that yields each answer as soon as it is done, independent of the other prompts (an API)."""

    def begin(self, questions: int) -> None:
        """Called once, with the number of questions that have no answer yet."""
        ...

    def stream(self, prompts: Sequence[Any]) -> Iterator[tuple[int, Answer | Failure]]:
        """(index of the prompt, its answer), in order of completion."""
        ...


class EvalModel(Protocol):
    """A model that can be evaluated: loaded weights, or a client of an API."""

    identity: str
    """A hash of its weights, or the name of a model behind an API."""
    answer_delimiter: str
    """The text after which the paper's code looks for this model's answer (protocol.answer_after `official`)."""
    pads_right: bool
    """Whether the processor in this model's folder pads on the right (protocol.padding_side `processor`)."""

    def predictor(self, config: EvalConfig, folder: EvalDir) -> Predictor:
        """The predictor for `config`. Raises `ConfigError` if the model cannot run this task."""
        ...


class Task(Protocol):
    """The question about an item and the scoring of its answer."""

    output: str
    """What the model must return: one of `eval.tasks.registry.OUTPUTS`."""

    def question(self, sample: Sample, item_index: ItemIndex | None = None) -> Question:
        """The question about `sample`. Raises `DataError` if the item lacks what the task needs."""
        ...

    def prepare(self, folder: EvalDir, predictions: Iterable[Prediction]) -> None:
        """Called with all answers of an evaluation before the first is scored, for scores that depend on others."""
        ...

    def score(self, prediction: Prediction) -> Score:
        """The score of a stored answer; a pure function of the stored line."""
        ...


@runtime_checkable
class ReferencedTask(Protocol):
    """A task that can say which text of a stored answer is compared with what, so that graders compare the same."""

    def text(self, prediction: Prediction) -> str:
        """The part of the answer that is scored, or the best class name where all names were scored."""
        ...

    def reference(self, prediction: Prediction) -> Reference:
        """The expected answer and all names that are accepted for it."""
        ...


@runtime_checkable
class LabelSetTask(Protocol):
    """A task whose items may have several right classes, or none (protocol.labels)."""

    def labels_of(self, prediction: Prediction) -> tuple[str, ...]:
        """The class names that are right; an item without one is not scored."""
        ...

    def relabelled(self, prediction: Prediction) -> Prediction:
        """The prediction with the class that its item counts for."""
        ...
