"""The part of an answer that is scored."""

from configs.errors import RunError
from configs.protocol import ProtocolConfig

OFFICIAL = "official"
"""Value of protocol.after_last that means the answer delimiter of the evaluated model's family."""


def scored_text(answer: str, config: ProtocolConfig, prefix: str | None = None) -> str:
    """What follows the last `after_last`, or the complete answer; without the characters `answer_without`.

    `prefix` is the answer prefix that the answer continues; it is scored with it if `scored_part` says so.

    >>> scored_text("a dog Answer: a (big) cat", ProtocolConfig(after_last="Answer:", answer_without="()"))
    'a big cat'
    >>> scored_text("It is B", ProtocolConfig(scored_part="with_prefix"), "Let's think step by step. ")
    "Let's think step by step. It is B"

    Raises `RunError` if `after_last` is still `official`: the family of the evaluated model is unknown.
    """
    delimiter = config.after_last
    if delimiter == OFFICIAL:
        raise RunError(
            "protocol.after_last is official, and evaluation.json does not say the model's answer delimiter; run the "
            "same command without --report-only: it evaluates nothing again and adds it"
        )
    if config.scored_part == "with_prefix" and prefix is not None:
        answer = f"{prefix}{answer}".strip()
    text = answer if delimiter is None else answer.rsplit(delimiter, 1)[-1].strip()
    return delete_characters(text, config.answer_without)


def delete_characters(text: str, characters: str) -> str:
    """The text with every one of `characters` deleted."""
    return text.translate(dict.fromkeys(map(ord, characters)))
