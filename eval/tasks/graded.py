"""Free answers that only a grader can score (MM-Vet): this task asks, `python -m eval.grade` scores."""

from collections.abc import Iterable

from configs.errors import DataError
from configs.eval_dir import EvalDir
from configs.protocol import ProtocolConfig
from data_prep.sample import Sample
from eval.tasks.scored_text import scored_text
from eval.tasks.stored_question import asked_turns, group_of
from eval.types import ItemIndex, Prediction, Question, Reference, Score


class Graded:
    """The stored question; its stored answer is what a grader compares with."""

    output = "text"

    def __init__(self, config: ProtocolConfig):
        """Nothing is looked up."""
        self.config = config

    def question(self, sample: Sample, item_index: ItemIndex | None = None) -> Question:  # noqa: ARG002
        """The question; `references` are the capabilities that it needs. Raises `DataError` for none of these."""
        capabilities = sample.meta.get("capability")
        if not isinstance(capabilities, list) or not all(isinstance(name, str) for name in capabilities):
            raise DataError("it has no list of capabilities in meta.capability; task graded needs it (reader mm_vet)")
        turns = asked_turns(sample, self.config)
        return Question(turns, sample.turns[-1].text, references=tuple(capabilities), group=group_of(sample))

    def prepare(self, folder: EvalDir, predictions: Iterable[Prediction]) -> None:
        """Nothing: no score depends on other answers."""

    def score(self, prediction: Prediction) -> Score:  # noqa: ARG002
        """None: no rule reads a free answer."""
        return Score(None, None, "no rule scores it: grade it with python -m eval.grade")

    def text(self, prediction: Prediction) -> str:
        """The part of the answer that is graded."""
        return scored_text(prediction.answer, self.config, prediction.prefix)

    def reference(self, prediction: Prediction) -> Reference:
        """The stored answer."""
        return Reference(prediction.target)
