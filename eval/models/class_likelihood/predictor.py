"""The predictor of task class_likelihood: scores all class names as answers, from the tree or misaligned."""

import time
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from configs.errors import RunError
from configs.eval_dir import EvalDir
from configs.protocol import ProtocolConfig
from data_prep.class_names import load_class_list
from data_prep.prompts import classification_prompt, image_question
from data_prep.sample import Turn, without_image
from eval.class_scores.rules import Floats, Rule, path_sums
from eval.class_scores.table import ClassScoreTable, encode_scores, rule_of, rule_scores, write_class_scores
from eval.models.class_likelihood.misaligned import MisalignedNames
from eval.models.class_likelihood.scorer import ClassScorer
from eval.models.generate import Prompt, TextPredictor
from eval.models.memory import NOT_FINITE, within_memory
from eval.types import Answer, Failure
from train.models.layer_parts import LayerParts
from train.models.loading import LoadedModel

LOG, PROBABILITIES = Rule(), Rule(tokens="probability")


class NameSums(Protocol):
    """Scores all names behind prompts."""

    lengths: tuple[int, ...]
    """Tokens that are scored of each name."""

    def sums(self, prompts: Sequence[Prompt], rules: Sequence[Rule]) -> list[Floats]:
        """For each rule (images, names): what it sums of the names' tokens."""
        ...


class TreeNames:
    """The names' own tokens in context, by one forward pass over their tree."""

    def __init__(self, predictor: TextPredictor, turns: tuple[Turn, ...], names: tuple[str, ...], score_eos: bool):
        """Tokenize the names."""
        self.scorer = ClassScorer(predictor, score_eos=score_eos)
        self.trie = self.scorer.trie(turns, names)
        self.lengths = tuple(map(len, self.trie.paths))

    def sums(self, prompts: Sequence[Prompt], rules: Sequence[Rule]) -> list[Floats]:
        """As `NameSums`."""
        log_probs = self.scorer.log_probs(prompts, self.trie)
        return [path_sums(self.trie, rule.of_tokens(log_probs))[:, self.trie.ends] for rule in rules]


class ClassLikelihoodPredictor:
    """Scores every class name of each image; the answer's text is the best name by the protocol's rule.

    The prior over all images is not known yet, so for it that text is the best name by the prior without the image;
    reports use the stored scores.
    """

    def __init__(self, loaded: LoadedModel, protocol: ProtocolConfig, folder: EvalDir, parts: LayerParts | None = None):
        """Tokenize the names, score them without an image, and write the folder's table of classes."""
        self.predictor = TextPredictor(loaded, protocol, parts)
        self.predictor.answer_prefix = self.predictor.style.class_prefix
        self.rule = rule_of(protocol)
        self.rules = [LOG, PROBABILITIES] if self.rule.sums_probabilities else [LOG]
        self.names = load_class_list(protocol.classes or "").names
        turns = (Turn("human", image_question(classification_prompt(self.predictor.protocol.prompt))),)
        self.scored: NameSums
        if self.predictor.style.class_token_ids == "misaligned":
            self.scored = MisalignedNames(self.predictor, turns, self.names, protocol.score_eos)
        else:
            self.scored = TreeNames(self.predictor, turns, self.names, protocol.score_eos)
        alone = self.predictor.prompt(without_image(turns), None)
        priors = [sums[0] for sums in self.scored.sums([alone], self.rules)]
        self.prior = priors[-1]
        if not all(np.isfinite(prior).all() for prior in priors):
            raise RunError(f"{loaded.folder}: {NOT_FINITE}")
        stored = [tuple(map(float, prior)) for prior in priors]
        write_class_scores(
            folder, ClassScoreTable(self.names, self.scored.lengths, stored[0], stored[1] if stored[1:] else ())
        )

    def prompt(self, turns: Sequence[Turn], image: bytes | None) -> Prompt:
        """As `TextPredictor.prompt`."""
        return self.predictor.prompt(turns, image)

    def predict(self, prompts: Sequence[Prompt]) -> list[Answer | Failure]:
        """The scores of all names for all prompts. Raises `RunError` that names `batch_size` if memory runs out."""
        start = time.monotonic()
        with within_memory(len(prompts), f"images with {len(self.names)} names each"):
            sums = self.scored.sums(prompts, self.rules)  # by rule, (images, classes)
        best = rule_scores(self.rule, sums[-1], self.scored.lengths, self.prior).argmax(1)
        seconds = (time.monotonic() - start) / max(1, len(prompts))
        stored = [tuple(map(encode_scores, rows)) for rows in zip(*sums, strict=True)]
        whole = np.all([np.isfinite(rows).all(1) for rows in sums], 0)
        return [
            Answer(self.names[index], [], True, seconds, *texts) if finite else Failure(NOT_FINITE)
            for index, texts, finite in zip(best, stored, whole, strict=True)
        ]
