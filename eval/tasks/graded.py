"""Free answers that only a grader can score (MM-Vet): this task asks, `python -m eval.grade` scores."""

from configs.errors import DataError
from data_prep.sample import Sample
from eval.tasks.stored_question import StoredQuestionTask, asked_turns, group_of
from eval.types import ItemIndex, Prediction, Question, Score


class Graded(StoredQuestionTask):
    """The stored question; its stored answer is what a grader compares with."""

    def question(self, sample: Sample, item_index: ItemIndex | None = None) -> Question:  # noqa: ARG002
        """The question; `references` are the capabilities that it needs. Raises `DataError` for none of these."""
        capabilities = sample.meta.get("capability")
        if not isinstance(capabilities, list) or not all(isinstance(name, str) for name in capabilities):
            raise DataError("it has no list of capabilities in meta.capability; task graded needs it (reader mm_vet)")
        turns = asked_turns(sample, self.config)
        return Question(turns, sample.turns[-1].text, references=tuple(capabilities), group=group_of(sample))

    def score(self, prediction: Prediction) -> Score:  # noqa: ARG002
        """None: no rule reads a free answer."""
        return Score(None, None, "no rule scores it: grade it with python -m eval.grade")
