"""The largest possible spending of questions to an API, and what they did cost: requests, tokens, money.

A token has at least one byte of text, so the bytes of a question bound its tokens. An image counts `api.image_tokens`.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from configs.api import ApiConfig
from data_prep.api.messages import Message
from data_prep.api.reply import Reply

MESSAGE_TOKENS = 16  # of the frame around a message: role, separators
MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Spending:
    """Upper limits, if every question took all attempts and every attempt were charged; None where unknown."""

    questions: int
    requests: int
    tokens_in: int | None
    tokens_out: int | None
    money: float | None

    def words(self) -> str:
        """The limits for a line of output, with the settings that would tell more."""
        words = [f"up to {self.requests:,} requests"]
        if self.tokens_in is not None:
            words.append(f"up to {self.tokens_in:,} tokens of questions")
        length = "of any length" if self.tokens_out is None else f"of up to {self.tokens_out:,} tokens"
        words.append(f"answers {length}")
        words.append(
            "largest cost unknown" if self.money is None else f"at most {math.ceil(self.money * 100) / 100:,.2f} in all"
        )
        return ", ".join(words)


def largest_spending(questions: Sequence[Sequence[Message]], api: ApiConfig, limit: int | None) -> Spending:
    """The largest spending on `questions`, each a list of messages; answers have up to `limit` tokens."""
    requests = len(questions) * api.attempts
    one_by_one = [_tokens(messages, api) for messages in questions]
    tokens = [count for count in one_by_one if count is not None]
    tokens_in = sum(tokens) * api.attempts if len(tokens) == len(one_by_one) else None
    tokens_out = None if limit is None or api.length_field == "none" else requests * limit
    return Spending(len(questions), requests, tokens_in, tokens_out, _money(tokens_in, tokens_out, api))


def missing_settings(questions: Sequence[Sequence[Message]], api: ApiConfig, limit: int | None) -> list[str]:
    """Settings without which the largest cost is not known."""
    shows_images = any(message.images for messages in questions for message in messages)
    missing = [f"api.{name}" for name in ("price_in", "price_out") if getattr(api, name) is None]
    missing += ["api.image_tokens"] if shows_images and api.image_tokens is None else []
    return missing + (["a limit of tokens"] if limit is None or api.length_field == "none" else [])


def used(replies: Iterable[Reply], api: ApiConfig) -> str:
    """Tokens of `replies` as the server counted them, and their cost where prices are set."""
    counts = [(reply.tokens_in, reply.tokens_out) for reply in replies]
    tokens_in, tokens_out = (sum(column) for column in zip(*counts, strict=True)) if counts else (0, 0)
    unknown = sum(pair == (0, 0) for pair in counts)
    words = f"{tokens_in:,} tokens of questions and {tokens_out:,} of answers"
    if unknown:
        return f"{words} ({unknown:,} replies did not say)"
    money = _money(tokens_in, tokens_out, api)
    return words if money is None else f"{words}, cost {money:,.4f}"


def _tokens(messages: Sequence[Message], api: ApiConfig) -> int | None:
    """Upper limit of a question's tokens; None if it shows images whose tokens are not known."""
    images = sum(len(message.images) for message in messages)
    if images and api.image_tokens is None:
        return None
    text = sum(len(message.text.encode(errors="replace")) + MESSAGE_TOKENS for message in messages)
    return text + images * (api.image_tokens or 0)


def _money(tokens_in: int | None, tokens_out: int | None, api: ApiConfig) -> float | None:
    if tokens_in is None or tokens_out is None or api.price_in is None or api.price_out is None:
        return None
    return (tokens_in * api.price_in + tokens_out * api.price_out) / MILLION
