"""A model's reply to one question: its text, how it ended, and the tokens used."""

from dataclasses import dataclass
from typing import Any

from data_prep.api.replies import text_of

CUT = frozenset({"length", "max_tokens", "max_output_tokens", "model_length"})  # finish_reason at the limit
MOST_TOKENS = 1_000_000  # upper limit for a server's count of tokens


@dataclass(frozen=True, slots=True)
class Reply:
    """The first choice of a chat completion; no text is an empty answer.

    `cut` says that the answer reached the length limit; `refused` that the server marked it as a refusal, whose text
    then is `text`. `tokens_in` and `tokens_out` are those of question and answer, 0 if the server does not say.
    """

    text: str
    finish_reason: str
    cut: bool
    refused: bool
    tokens_in: int
    tokens_out: int
    seconds: float


@dataclass(frozen=True, slots=True)
class NoReply:
    """A question without an answer. `sent` is False if its request could not be made, as for a broken image."""

    reason: str
    sent: bool = True


def reply_of(values: dict[str, Any], seconds: float) -> Reply:
    """The reply in a completion of `data_prep.api.replies.completion_of`, which took `seconds`."""
    choice = values["choices"][0]
    message = choice["message"]
    finish = str(choice.get("finish_reason") or "").lower()
    return Reply(
        text=text_of(choice),
        finish_reason=finish,
        cut=finish in CUT,
        refused=isinstance(message, dict) and bool(message.get("refusal")) and not message.get("content"),
        tokens_in=_tokens(values, "prompt_tokens"),
        tokens_out=_tokens(values, "completion_tokens"),
        seconds=seconds,
    )


def _tokens(values: dict[str, Any], name: str) -> int:
    usage = values.get("usage")
    reported = usage.get(name) if isinstance(usage, dict) else None
    return min(max(reported, 0), MOST_TOKENS) if isinstance(reported, int) else 0
