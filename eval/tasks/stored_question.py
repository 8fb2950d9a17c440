"""The question that is stored with an item, and what the tasks that ask it share."""

from collections.abc import Iterable

from configs.errors import DataError
from configs.eval_dir import EvalDir
from configs.protocol import ProtocolConfig
from data_prep.sample import IMAGE_PLACEHOLDER, Sample, Turn
from eval.scorers.registry import Scorer
from eval.tasks.scored_text import scored_text
from eval.types import Prediction, Reference, Score

OCR_LINE = "Reference OCR token: "


class StoredQuestionTask:
    """A task whose answers are scored one by one, by `scorer` and the subclass's `reference`."""

    output = "text"
    scorer: Scorer

    def __init__(self, config: ProtocolConfig):
        """Keep the protocol; a subclass looks up its scorer."""
        self.config = config

    def prepare(self, folder: EvalDir, predictions: Iterable[Prediction]) -> None:
        """Nothing: no score depends on other answers."""

    def text(self, prediction: Prediction) -> str:
        """The part of the answer that the protocol scores."""
        return scored_text(prediction.answer, self.config, prediction.prefix)

    def reference(self, prediction: Prediction) -> Reference:
        """The stored answer."""
        return Reference(prediction.target)

    def score(self, prediction: Prediction) -> Score:
        """By the protocol's scorer."""
        return self.scorer(self.text(prediction), self.reference(prediction))


def asked_turns(sample: Sample, config: ProtocolConfig) -> tuple[Turn, ...]:
    """The stored turns without the last, the answer; OCR tokens and the protocol's suffix on lines of their own.

    Raises `DataError` if the turns do not end with question and answer, the question's image is missing, or its OCR
    tokens are no list of texts.
    """
    if len(sample.turns) < 2 or sample.turns[-1].speaker != "gpt" or sample.turns[-2].speaker != "human":
        raise DataError(f"its turns do not end with a question and an answer; {config.task} needs both")
    turns = sample.turns[:-1]
    if sample.image is None and any(IMAGE_PLACEHOLDER in turn.text for turn in turns):
        raise DataError("its question shows an image and it has none")
    lines = [turns[-1].text]
    tokens = sample.meta.get("ocr_tokens")
    if config.ocr_tokens and tokens is not None:
        if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
            raise DataError("its meta.ocr_tokens is no list of texts; protocol.ocr_tokens=false leaves it out")
        lines.append(f"{OCR_LINE}{', '.join(tokens)}".rstrip())
    if config.question_suffix:
        lines.append(config.question_suffix)
    return (*turns[:-1], Turn("human", "\n".join(lines)))


def group_of(sample: Sample) -> str | None:
    """The name of the image that several questions share; None where the item does not say it."""
    group = sample.meta.get("group")
    return None if group is None else str(group)
