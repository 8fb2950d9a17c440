"""Short answers to questions about images, scored by how many of ten people gave the same (TextVQA, VQAv2)."""

from collections.abc import Iterable

from configs.errors import DataError
from configs.eval_dir import EvalDir
from configs.protocol import ProtocolConfig
from data_prep.sample import Sample
from eval.scorers.registry import find_scorer
from eval.tasks.scored_text import scored_text
from eval.tasks.stored_question import asked_turns, group_of
from eval.types import ItemIndex, Prediction, Question, Reference, Score


class VisualQuestions:
    """The stored question; `meta.answers` of an item are the people's answers."""

    output = "text"

    def __init__(self, config: ProtocolConfig):
        """Look up the scorer. Raises `ConfigError` if it is unknown."""
        self.config = config
        self.scorer = find_scorer(config.vqa_scorer, "protocol.vqa_scorer")

    def question(self, sample: Sample, item_index: ItemIndex | None = None) -> Question:  # noqa: ARG002
        """The question; its target is the stored answer. Raises `DataError` for an item without people's answers."""
        answers = sample.meta.get("answers")
        if not isinstance(answers, list) or not answers or not all(isinstance(answer, str) for answer in answers):
            raise DataError("it has no list of people's answers in meta.answers; task vqa needs them (reader textvqa)")
        turns = asked_turns(sample, self.config)
        return Question(turns, sample.turns[-1].text, references=tuple(answers), group=group_of(sample))

    def prepare(self, folder: EvalDir, predictions: Iterable[Prediction]) -> None:
        """Nothing: no score depends on other answers."""

    def score(self, prediction: Prediction) -> Score:
        """By the protocol's scorer, from the people's answers."""
        return self.scorer(self.text(prediction), self.reference(prediction))

    def text(self, prediction: Prediction) -> str:
        """The part of the answer that is scored."""
        return scored_text(prediction.answer, self.config, prediction.prefix)

    def reference(self, prediction: Prediction) -> Reference:
        """The stored answer; its names are the people's answers."""
        return Reference(prediction.target, prediction.references or ())
