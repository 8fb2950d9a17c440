"""The question that is stored with an item, as tasks with a free answer ask it."""

from configs.errors import DataError
from configs.protocol import ProtocolConfig
from data_prep.sample import IMAGE_PLACEHOLDER, Sample, Turn

OCR_LINE = "Reference OCR token: "


def asked_turns(sample: Sample, config: ProtocolConfig) -> tuple[Turn, ...]:
    """The stored turns without the last, the answer; OCR tokens and the protocol's suffix on lines of their own.

    Raises `DataError` if the turns do not end with question and answer, or the question's image is missing.
    """
    if len(sample.turns) < 2 or sample.turns[-1].speaker != "gpt" or sample.turns[-2].speaker != "human":
        raise DataError(f"its turns do not end with a question and an answer; {config.task} needs both")
    turns = sample.turns[:-1]
    if sample.image is None and any(IMAGE_PLACEHOLDER in turn.text for turn in turns):
        raise DataError("its question shows an image and it has none")
    lines = [turns[-1].text]
    tokens = sample.meta.get("ocr_tokens")
    if config.ocr_tokens and tokens is not None:
        lines.append(f"{OCR_LINE}{', '.join(tokens)}".rstrip())
    if config.question_suffix:
        lines.append(config.question_suffix)
    return (*turns[:-1], Turn("human", "\n".join(lines)))


def group_of(sample: Sample) -> str | None:
    """The name of the image that several questions share; None where the item does not say it."""
    group = sample.meta.get("group")
    return None if group is None else str(group)
