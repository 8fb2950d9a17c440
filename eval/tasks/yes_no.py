"""Yes-or-no questions about images (POPE: is there an OBJECT in the image?)."""

from configs.errors import DataError
from configs.protocol import ProtocolConfig
from data_prep.sample import Sample
from eval.scorers.registry import find_scorer
from eval.tasks.stored_question import StoredQuestionTask, asked_turns, group_of
from eval.types import ItemIndex, Question


class YesNo(StoredQuestionTask):
    """The stored question, whose stored answer is yes or no.

    `extracted` of a score is yes, no, or None where the answer says neither.
    """

    def __init__(self, config: ProtocolConfig):
        """Look up the scorer. Raises `ConfigError` if it is unknown."""
        super().__init__(config)
        self.scorer = find_scorer(config.yes_no_scorer, "protocol.yes_no_scorer")

    def question(self, sample: Sample, item_index: ItemIndex | None = None) -> Question:  # noqa: ARG002
        """The question; its target is yes or no. Raises `DataError` for another answer."""
        turns, target = asked_turns(sample, self.config), sample.turns[-1].text.strip().lower()
        if target not in ("yes", "no"):
            raise DataError(f"its answer is {target[:40]!r}; task yes_no needs yes or no")
        return Question(turns, target, group=group_of(sample))
