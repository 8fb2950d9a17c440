"""Protocols that know the classes: the list in the question (closed world), or every name scored (class scoring).

Both ask one of the wordings of `data_prep/prompts.py`; who may be a candidate is drawn by the item's id.
"""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from configs.protocol import ProtocolConfig
from configs.run_dir import EvalDir
from data_prep.class_names import load_class_list
from data_prep.prompts import classification_prompt, image_question
from data_prep.sample import Sample, Turn
from eval.class_scores.table import ClassSheet, read_sheet, rule_of, rule_scores, stored_sums
from eval.tasks.candidates import candidate_indices, shown_candidates
from eval.tasks.open_world import OpenWorld, class_of
from eval.types import Prediction, Question, Score, SourceIndex


class ClosedWorld(OpenWorld):
    """The paper's closed world: the wording, then `Choose one from a, b, c.`; right if the label is in the answer.

    The authors' code puts quotes around the list (`class_quotes`), of which the paper's text (Section 2.3) has none.
    """

    def __init__(self, config: ProtocolConfig):
        """Read the class list. Raises `ConfigError` or `DataError` if wording, list or synonyms are unknown."""
        super().__init__(config)
        self.names = load_class_list(config.classes or "").names

    def question(self, sample: Sample, source_index: SourceIndex | None = None) -> Question:
        """The wording with the item's candidates."""
        label = class_of(sample, self.config.kind)
        shown = shown_candidates(self.config, self.names, label, sample.id, source_index)
        quote = '"' if self.config.class_quotes else ""
        names = ", ".join(self.names[index] for index in shown)
        text = f"{classification_prompt(self.config.prompt)} Choose one from {quote}{names}{quote}."
        return Question((Turn("human", image_question(text)),), label)


class ClassScoring(OpenWorld):
    """Every class name is scored as the answer (Section 3.1, Table 2); the best of the candidates is the prediction."""

    def __init__(self, config: ProtocolConfig):
        """Read the class list. Raises `ConfigError` or `DataError` if wording or list are unknown."""
        super().__init__(config)
        self.names = load_class_list(config.classes or "").names
        self.scoring = rule_of(config)
        self._sheet: ClassSheet | None = None
        self._prior: np.ndarray[tuple[int, ...], np.dtype[np.float64]] | None = None

    def question(self, sample: Sample, source_index: SourceIndex | None = None) -> Question:
        """The wording alone: what is scored behind it are the class names."""
        label = class_of(sample, self.config.kind)
        candidate_indices(self.names, label, self.config.candidates, sample.id)
        return Question(
            self.turns, label, source_index=source_index if self.config.candidate_draw == "stream" else None
        )

    def prepare(self, folder: EvalDir, predictions: Iterable[Prediction]) -> None:
        """Look up lengths and prior before scores are asked for; a prior by dataset mean is the mean of these."""
        self._sheet = read_sheet(folder)
        self._prior = self._sheet.prior_of(self.scoring)
        if self.config.cfg_prior == "dataset_mean":
            rows = [stored_sums(p, self.scoring) for p in predictions if p.scores is not None]
            self._prior = np.mean(rows, axis=0) if rows else self._prior

    def score(self, prediction: Prediction) -> Score:
        """By the best of the candidates; before `prepare`, by the name that was stored as the answer."""
        if self._sheet is None or prediction.scores is None:
            right = prediction.answer == prediction.target
            return Score(right, prediction.answer, "the best name while asking")
        config = self.config
        scores = rule_scores(self.scoring, stored_sums(prediction, self.scoring), self._sheet.lengths, self._prior)
        allowed = np.arange(len(self.names))
        if config.candidates is not None:
            drawn = shown_candidates(config, self.names, prediction.target, prediction.id, prediction.source_index)
            allowed = np.sort(drawn)
        best = int(allowed[scores[allowed].argmax()])  # of equal ones the first in the list
        label = self.names.index(prediction.target)
        right = self.names[best] == prediction.target if config.duplicates == "any" else best == label
        rank = 1 + int((scores[allowed] > scores[label]).sum())
        return Score(right, self.names[best], f"best of {len(allowed)} by {config.rule}; the label is number {rank}")


class ZeroShot(ClassScoring):
    """The class whose sentence is nearest to the image (Table 1's CLIP rows); the cosines are the stored scores.

    With `class_match: match` the best name is judged as an answer is, as the authors do: for "bra" a "zebra" is right.
    """

    def question(self, sample: Sample, source_index: SourceIndex | None = None) -> Question:
        """Nothing but the image is put to the model."""
        return replace(super().question(sample, source_index), turns=())

    def score(self, prediction: Prediction) -> Score:
        """By the best of the candidates."""
        best = super().score(prediction)
        if self.config.class_match == "equal" or best.value or best.extracted is None:
            return best
        matched = OpenWorld.score(self, replace(prediction, answer=best.extracted))
        return Score(matched.value, best.extracted, f"{best.reason}; {matched.reason}")
