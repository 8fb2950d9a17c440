"""Class likelihood: every class name is scored as the answer; the best candidate is the prediction (Section 3.1)."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from configs.errors import RunError
from configs.eval_dir import EvalDir
from configs.protocol import ProtocolConfig
from data_prep.class_names import load_class_list
from data_prep.sample import Sample
from eval.class_scores.rules import Floats
from eval.class_scores.table import ClassScoreTable, read_class_scores, rule_of, rule_scores, stored_sums
from eval.tasks.candidates import check_candidates, shown_candidates
from eval.tasks.open_world import OpenWorld, class_of
from eval.types import ItemIndex, Prediction, Question, Score


class ClassLikelihood(OpenWorld):
    """The prompt of `OpenWorld`; the stored scores of all names serve every rule and candidate set."""

    output = "class_likelihoods"

    def __init__(self, config: ProtocolConfig):
        """Read the class list. Raises `ConfigError` or `DataError` if prompt or list are unknown."""
        super().__init__(config)
        self.names = load_class_list(config.classes or "").names
        numbers = {name: number for number, name in enumerate(dict.fromkeys(self.names))}
        self._name_number = np.array([numbers[name] for name in self.names], dtype=np.int64)
        self.rule = rule_of(config)
        self._table: ClassScoreTable | None = None
        self._prior: Floats | None = None

    def question(self, sample: Sample, item_index: ItemIndex | None = None) -> Question:
        """The prompt alone; the class names are scored as its answers."""
        label = class_of(sample, self.config.task)
        check_candidates(self.config, self.names, label, sample.id)
        streamed = self.config.candidate_draw == "stream"
        return Question(self.turns, label, item_index=item_index if streamed else None)

    def begin(self, folder: EvalDir) -> bool:
        """Read the scores' table that the model wrote: answers are scored among their candidates while it runs.

        False if no score is known until all images are: the prior is their mean.
        """
        if self.rule.guided and self.config.cfg_prior == "dataset_mean":
            return False
        if self.config.candidates is not None:
            self._table = read_class_scores(folder)
            self._prior = self._table.prior_of(self.rule)
        return True

    def prepare(self, folder: EvalDir, predictions: Iterable[Prediction]) -> None:
        """Read token counts and prior from `folder`; the prior `dataset_mean` is the mean over `predictions`.

        Raises `RunError` if the scores are of other names, or of the same in another order, than protocol.classes.
        """
        predictions = list(predictions)
        self.labels.prepare(predictions)
        self._table = read_class_scores(folder)
        if self._table.names != self.names:
            changed = [pair for pair in zip(self._table.names, self.names, strict=False) if pair[0] != pair[1]]
            first = f"; the first that differs was {changed[0][0]!r} and is {changed[0][1]!r}" if changed else ""
            raise RunError(
                f"protocol.classes {self.config.classes} is not the list that {folder.root} holds scores of "
                f"({len(self._table.names):,} names then, {len(self.names):,} now{first}); restore the list, or set "
                "output to another folder and run again"
            )
        self._prior = self._table.prior_of(self.rule)
        if self.config.cfg_prior == "dataset_mean":
            rows = [stored_sums(p, self.rule) for p in predictions if p.scores is not None]
            self._prior = np.mean(rows, axis=0) if rows else self._prior

    def text(self, prediction: Prediction) -> str:
        """The best of the candidates, by the protocol's rule."""
        return ClassLikelihood.score(self, prediction).extracted or prediction.answer

    def score(self, prediction: Prediction) -> Score:
        """By the best of the candidates; before `prepare`, by the name that was stored as the answer."""
        labels = self.labels_of(prediction)
        if self._table is None or prediction.scores is None:
            correct = prediction.answer in labels
            return Score(correct, prediction.answer, "the best name at prediction time")
        config = self.config
        allowed, scores = self.candidate_scores(prediction)
        best = int(allowed[scores.argmax()])  # of equal scores the first in the list
        right = np.isin(allowed, [self.names.index(name) for name in labels])
        correct = ClassLikelihood.accepts(self, prediction, best)  # a subclass says why it accepts more
        rank = 1 + self._count_names(allowed[scores > scores[right].max(initial=-np.inf)])
        label = "the label" if len(labels) < 2 else f"the best of {len(labels)} labels"
        where = f"{label} is number {rank}" if right.any() else f"{label} is not among them"
        return Score(correct, self.names[best], f"best of {self._count_names(allowed)} by {config.rule}; {where}")

    def _count_names(self, classes: NDArray[np.int64]) -> int:
        """How many names `classes` (indices) have: those that share one count as one, as in the whole report."""
        return len(np.unique(self._name_number[classes]))

    def candidate_scores(self, prediction: Prediction) -> tuple[NDArray[np.int64], Floats]:
        """(K,) indices of the item's candidates in the order of the list, and their scores (K,) by the rule.

        After `prepare` only. Raises `RunError` if what the rule sums was not stored.
        """
        assert self._table is not None
        scores = rule_scores(self.rule, stored_sums(prediction, self.rule), self._table.lengths, self._prior)
        allowed = np.arange(len(self.names))
        if self.config.candidates is not None:
            config, item = self.config, (prediction.id, prediction.item_index)
            allowed = np.sort(shown_candidates(config, self.names, prediction.target, *item))
        return allowed, scores[allowed]

    def accepts(self, prediction: Prediction, index: int) -> bool:
        """Whether class number `index` is a correct answer."""
        labels = self.labels_of(prediction)
        if self.config.duplicates == "any":
            return self.names[index] in labels
        return index in [self.names.index(name) for name in labels]
