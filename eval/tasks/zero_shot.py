"""Zero-shot: the class whose sentence has the highest cosine with the image (the CLIP rows of Table 1)."""

from dataclasses import replace

from data_prep.sample import Sample
from eval.tasks.class_likelihood import ClassLikelihood
from eval.tasks.open_world import OpenWorld
from eval.types import ItemIndex, Prediction, Question, Score


class ZeroShot(ClassLikelihood):
    """The cosines are the stored scores.

    With `class_match: match` the best name is scored like a text answer, as the authors do: for "bra" a "zebra" is
    correct.
    """

    output = "similarities"

    def question(self, sample: Sample, item_index: ItemIndex | None = None) -> Question:
        """No text: the model sees the image alone."""
        return replace(super().question(sample, item_index), turns=())

    def score(self, prediction: Prediction) -> Score:
        """By the best of the candidates."""
        best = super().score(prediction)
        if self.config.class_match == "equal" or best.value or best.extracted is None:
            return best
        matched = OpenWorld.score(self, replace(prediction, answer=best.extracted))
        return Score(matched.value, best.extracted, f"{best.reason}; {matched.reason}")

    def accepts(self, prediction: Prediction, index: int) -> bool:
        """Whether class number `index` is a correct answer, also by its name's text with `class_match: match`."""
        if super().accepts(prediction, index) or self.config.class_match == "equal":
            return super().accepts(prediction, index)
        return OpenWorld.score(self, replace(prediction, answer=self.names[index])).value is True
