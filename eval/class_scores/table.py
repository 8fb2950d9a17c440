"""classes.json of a class-scoring evaluation, and the scores in its prediction lines: enough to redo every rule.

    {"names": ["tench", ...], "lengths": [2, ...], "prior": [-8.1, ...], "prior_probabilities": [0.3, ...]}

`lengths` counts each name's tokens (a scored end token included); `prior` is its log-probability after the question
without the image. A prediction line's `scores` holds the log-probability of every name, summed over its tokens:
float32, little endian, base64, 5.3 KB for 1,000 names. Sums are all that sum, mean and guidance need, so rules,
guidance and candidate sets are chosen when the report is made. With protocol.token_scores `probability`, the sums of
the tokens' probabilities are stored too (`probabilities`, the same size), so that one evaluation serves both. Of a CLIP
`scores` holds the cosines, and `logit_scale` its own factor before the softmax (100 for OpenAI's models).
"""

import base64
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from configs.errors import RunError
from configs.eval_dir import EvalDir
from configs.protocol import ProtocolConfig
from data_prep.atomic import write_bytes
from eval.class_scores.rules import Floats, Rule
from eval.types import Prediction


@dataclass(frozen=True, slots=True)
class ClassScoreTable:
    """What all items of a class-scoring evaluation share."""

    names: tuple[str, ...]
    lengths: tuple[int, ...]
    prior: tuple[float, ...]
    prior_probabilities: tuple[float, ...] = ()
    logit_scale: float | None = None

    def prior_of(self, rule: Rule) -> Floats:
        """(classes,) what `rule` sums of the prior's tokens. Raises `RunError` if it was not stored."""
        if rule.sums_probabilities and not self.prior_probabilities:
            raise RunError(NOT_STORED)
        return np.array(self.prior_probabilities if rule.sums_probabilities else self.prior)


NOT_STORED = (
    "protocol.token_scores is probability, and some of these answers hold sums of log-probabilities alone; delete "
    "their folder, or set output to another, and ask again: such answers serve both"
)


def write_class_scores(folder: EvalDir, table: ClassScoreTable) -> None:
    """Write the table; every worker writes the same."""
    folder.root.mkdir(parents=True, exist_ok=True)
    write_bytes(folder.class_scores, (json.dumps(asdict(table), ensure_ascii=False) + "\n").encode())


def read_class_scores(folder: EvalDir) -> ClassScoreTable:
    """The table of an evaluation. Raises `RunError` if it is missing or damaged."""
    try:
        values = json.loads(folder.class_scores.read_text(encoding="utf-8"))
        literal = tuple(values.get("prior_probabilities", ()))
        shared = tuple(values["names"]), tuple(values["lengths"]), tuple(values["prior"])
        return ClassScoreTable(*shared, literal, values.get("logit_scale"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{folder.class_scores} cannot be read ({error}); run the evaluation again to write it"
        ) from error


def encode_scores(scores: Floats) -> str:
    """(classes,) to text; -1e3 and 0 keep seven digits."""
    return base64.b64encode(np.asarray(scores, dtype="<f4").tobytes()).decode()


def stored_bytes(classes: int) -> int:
    """The length of `encode_scores` of so many classes.

    >>> stored_bytes(1000)
    5336
    """
    return 4 * -(-4 * classes // 3)


def decode_scores(text: str) -> Floats:
    """Inverse of `encode_scores`."""
    return np.frombuffer(base64.b64decode(text), dtype="<f4").astype(np.float64)


def stored_sums(prediction: Prediction, rule: Rule) -> Floats:
    """(classes,) what `rule` sums of each name's tokens. Raises `RunError` if it was not stored."""
    stored = prediction.probabilities if rule.sums_probabilities else prediction.scores
    if stored is None:
        raise RunError(NOT_STORED)
    return decode_scores(stored)


def rule_of(config: ProtocolConfig) -> Rule:
    """The rule that a protocol asks for. The scores of tasks zero_shot and trained_probe have no tokens."""
    tokens = config.token_scores if config.task == "class_likelihood" else "log_probability"
    return Rule(config.rule, config.guidance, config.cfg_form, config.cfg_mean, tokens)


def rule_scores(rule: Rule, sums: Floats, lengths: Sequence[int], prior: Floats | None) -> Floats:
    """(..., classes) scores of names from what the rule sums of their tokens; `class_scores` without the tree."""
    divide = np.asarray(lengths, dtype=np.float64) if rule.mean else 1.0
    scores = rule.falling(sums / divide)
    return scores + rule.fixed(prior / divide) if rule.guided and prior is not None else scores
