"""The answers of a model that scores all classes of an image at once: the best one's name, and the scores of all.

Scores are stored as those of class names are (`eval.class_scores.table`), each class as a name of one token without a
prior, so candidates, top-5 and calibration need no other forward pass.
"""

import time
from collections.abc import Sequence

import numpy as np
import torch

from configs.eval_dir import EvalDir
from eval.class_scores.table import ClassScoreTable, encode_scores, write_class_scores
from eval.models.memory import NOT_FINITE
from eval.types import Answer, Failure


def write_class_table(folder: EvalDir, names: tuple[str, ...], logit_scale: float | None = None) -> None:
    """Write the folder's table of the classes `names`."""
    ones, zeros = (1,) * len(names), (0.0,) * len(names)
    write_class_scores(folder, ClassScoreTable(names, ones, zeros, logit_scale=logit_scale))


def class_answers(names: Sequence[str], scores: torch.Tensor, start: float) -> list[Answer | Failure]:
    """An answer for each row of `scores` (images, classes), computed since `start` (`time.monotonic`)."""
    rows = scores.cpu().double().numpy()
    seconds = (time.monotonic() - start) / max(1, len(rows))
    return [
        Answer(names[int(row.argmax())], [], True, seconds, encode_scores(row))
        if np.isfinite(row).all()
        else Failure(NOT_FINITE)
        for row in rows
    ]
