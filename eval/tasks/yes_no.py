"""Yes-or-no questions about images (POPE: is there an OBJECT in the image?)."""

from collections.abc import Iterable

from configs.errors import DataError
from configs.eval_dir import EvalDir
from configs.protocol import ProtocolConfig
from data_prep.sample import Sample
from eval.scorers.registry import find_scorer
from eval.tasks.scored_text import scored_text
from eval.tasks.stored_question import asked_turns, group_of
from eval.types import ItemIndex, Prediction, Question, Reference, Score


class YesNo:
    """The stored question, whose stored answer is yes or no."""

    output = "text"

    def __init__(self, config: ProtocolConfig):
        """Look up the scorer."""
        self.config = config
        self.scorer = find_scorer(config.yes_no_scorer, "protocol.yes_no_scorer")

    def question(self, sample: Sample, item_index: ItemIndex | None = None) -> Question:  # noqa: ARG002
        """The question; its target is yes or no. Raises `DataError` for another answer."""
        turns, target = asked_turns(sample, self.config), sample.turns[-1].text.strip().lower()
        if target not in ("yes", "no"):
            raise DataError(f"its answer is {target[:40]!r}; task yes_no needs yes or no")
        return Question(turns, target, group=group_of(sample))

    def prepare(self, folder: EvalDir, predictions: Iterable[Prediction]) -> None:
        """Nothing: no score depends on other answers."""

    def score(self, prediction: Prediction) -> Score:
        """By what the answer says; `extracted` is yes, no, or None where it says neither."""
        return self.scorer(self.text(prediction), self.reference(prediction))

    def text(self, prediction: Prediction) -> str:
        """The part of the answer that is scored."""
        return scored_text(prediction.answer, self.config, prediction.prefix)

    def reference(self, prediction: Prediction) -> Reference:
        """Yes or no."""
        return Reference(prediction.target)
