"""Short answers to questions about images, scored by how many of ten people gave the same (TextVQA, VQAv2)."""

from configs.errors import DataError
from configs.protocol import ProtocolConfig
from data_prep.sample import Sample
from eval.scorers.registry import find_scorer
from eval.tasks.stored_question import StoredQuestionTask, asked_turns, group_of
from eval.types import ItemIndex, Prediction, Question, Reference


class VisualQuestions(StoredQuestionTask):
    """The stored question; `meta.answers` of an item are the people's answers."""

    def __init__(self, config: ProtocolConfig):
        """Look up the scorer. Raises `ConfigError` if it is unknown."""
        super().__init__(config)
        self.scorer = find_scorer(config.vqa_scorer, "protocol.vqa_scorer")

    def question(self, sample: Sample, item_index: ItemIndex | None = None) -> Question:  # noqa: ARG002
        """The question; its target is the stored answer. Raises `DataError` for an item without people's answers."""
        answers = sample.meta.get("answers")
        if not isinstance(answers, list) or not answers or not all(isinstance(answer, str) for answer in answers):
            raise DataError("it has no list of people's answers in meta.answers; task vqa needs them (reader textvqa)")
        turns = asked_turns(sample, self.config)
        return Question(turns, sample.turns[-1].text, references=tuple(answers), group=group_of(sample))

    def reference(self, prediction: Prediction) -> Reference:
        """The stored answer; its names are the people's answers."""
        return Reference(prediction.target, prediction.references or ())
