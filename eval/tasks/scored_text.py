"""The part of an answer that is scored."""

from configs.errors import RunError
from configs.protocol import ProtocolConfig

OFFICIAL = "official"
"""Value of protocol.answer_after that means the answer delimiter of the evaluated model's family."""


def scored_text(answer: str, config: ProtocolConfig, prefix: str | None = None) -> str:
    """What follows the last `answer_after`, or the complete answer; without the characters `delete_from_answer`.

    `prefix` is the answer prefix that the answer continues; it is scored with it if `scored_part` says so.

    >>> scored_text("a dog Answer: a (big) cat", ProtocolConfig(answer_after="Answer:", delete_from_answer="()"))
    'a big cat'
    >>> scored_text("It is B", ProtocolConfig(scored_part="with_prefix"), "Let's think step by step. ")
    "Let's think step by step. It is B"

    Raises `RunError` if `answer_after` is still `official`: the family of the evaluated model is unknown.
    """
    delimiter = config.answer_after
    if delimiter == OFFICIAL:
        raise RunError(
            "protocol.answer_after is official, and evaluation.json does not say the model's answer delimiter; run the "
            "same command without --report-only: it evaluates nothing again and adds it"
        )
    if config.scored_part == "with_prefix" and prefix is not None:
        answer = f"{prefix}{answer}".strip()
    text = answer if delimiter is None else answer.rsplit(delimiter, 1)[-1].strip()
    return delete_characters(text, config.delete_from_answer)


def delete_characters(text: str, characters: str) -> str:
    """The text with every one of `characters` deleted."""
    return text.translate(dict.fromkeys(map(ord, characters)))
