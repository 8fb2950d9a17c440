"""What the runner asks when a protocol scores class names: the same calls as `Predictor`, other answers."""

import time
from collections.abc import Sequence

import numpy as np
import torch

from configs.errors import RunError
from configs.run_dir import EvalDir
from configs.schema import ProtocolConfig
from data_prep.class_names import load_class_list
from data_prep.prompts import classification_prompt, image_question
from data_prep.sample import Turn
from eval.class_scoring import ClassScorer
from eval.predictor import Answer, Predictor, Prompt
from eval.scoring.rules import path_sums
from eval.scoring.sheet import ClassSheet, encode_scores, rule_of, rule_scores, write_sheet
from train.model import LoadedModel


class ClassPredictor:
    """Scores every class name of each image; the answer's text is the best name by the protocol's rule.

    Where the prior is the mean over all images, which nobody knows yet, that text is the best by the sum; reports use
    the stored scores.
    """

    def __init__(self, loaded: LoadedModel, protocol: ProtocolConfig, folder: EvalDir):
        """Cut the names into tokens, score them without an image, and write the folder's class sheet."""
        self.predictor = Predictor(loaded, protocol)
        self.predictor.answer_prefix = self.predictor.words.class_prefix
        self.scorer, self.rule = ClassScorer(self.predictor), rule_of(protocol)
        self.names = load_class_list(protocol.classes or "").names
        self.turns = (Turn("human", image_question(classification_prompt(protocol.prompt))),)
        self.trie = self.scorer.trie(self.turns, self.names, protocol.terminator)
        prior = path_sums(self.trie, self.scorer.prior_without_image(self.turns, self.trie))
        self.prior = prior[np.array(self.trie.ends)]
        self.lengths = tuple(map(len, self.trie.paths))
        write_sheet(folder, ClassSheet(self.names, self.lengths, tuple(map(float, self.prior))))

    def prompt(self, turns: Sequence[Turn], image: bytes | None) -> Prompt:
        """As `Predictor.prompt`."""
        return self.predictor.prompt(turns, image)

    def answer(self, prompts: Sequence[Prompt]) -> list[Answer]:
        """The scores of all names for all prompts. Raises `RunError` that names `batch_size` if memory runs out."""
        start = time.monotonic()
        try:
            log_probs = self.scorer.log_probs(prompts, self.trie)
        except torch.OutOfMemoryError as error:
            raise RunError(
                f"the device has not enough memory to score {len(self.names)} names of {len(prompts)} images at a "
                f"time; lower batch_size to {max(1, len(prompts) // 2)}"
            ) from error
        sums = path_sums(self.trie, log_probs)[:, np.array(self.trie.ends)]  # (images, classes)
        best = rule_scores(self.rule, sums, self.lengths, self.prior).argmax(1)
        seconds = (time.monotonic() - start) / max(1, len(prompts))
        return [
            Answer(self.names[index], [], True, seconds, encode_scores(row))
            for index, row in zip(best, sums, strict=True)
        ]
