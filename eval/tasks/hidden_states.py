"""Hidden states: the open question, whose hidden states are stored for linear probes and whose answer is not scored."""

from configs.errors import DataError
from data_prep.sample import Sample
from eval.tasks.open_world import OpenWorld, class_of
from eval.types import ItemIndex, Prediction, Question, Score


class HiddenStates(OpenWorld):
    """The question of `OpenWorld`; a probe (`eval.probing`) is trained on the stored states."""

    output = "hidden_states"

    def question(self, sample: Sample, item_index: ItemIndex | None = None) -> Question:  # noqa: ARG002
        """The prompt. Raises `DataError` for an item without a label, which no probe can be trained on."""
        if sample.label is None:
            raise DataError("it has no label; a linear probe is trained on labels")
        return Question(self.turns, class_of(sample, "hidden_states"))

    def score(self, prediction: Prediction) -> Score:  # noqa: ARG002
        """Nothing was answered."""
        return Score(None, None, "hidden states are stored, not scored")
