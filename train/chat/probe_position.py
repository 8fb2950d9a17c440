"""Where the token of a linear probe (`loss.probe`) is: directly behind the image.

    USER: <image>[probe]
    What is it? ASSISTANT: a cat</s>

So it sees the system prompt and the image, and neither a question, which may name the class, nor the answer. Every
other token predicts what it predicts without the probe.
"""

from collections.abc import Sequence

from configs.errors import DataError
from train.chat.conversation import TokenizedConversation


def behind_image(ids: Sequence[int], image_token: int) -> int:
    """The index behind the last `image_token` of `ids`, which has one.

    >>> behind_image([1, 7, 7, 5, 2], image_token=7)
    3
    """
    return len(ids) - list(reversed(ids)).index(image_token)


def insert_probe(
    conversation: TokenizedConversation, image_token: int, filler: int, max_length: int
) -> TokenizedConversation:
    """`conversation` with the token, at most `max_length` long; `filler` is its id, whose embedding is not used.

    Raises `DataError` if no token is left behind it.
    """
    at = behind_image(conversation.input_ids, image_token)
    if at + 1 >= max_length:
        raise DataError(
            f"chat.max_length {max_length} has no room for the token of loss.probe behind the image's, which end at "
            f"{at:,}; raise it, or set loss.probe to 0"
        )
    inserted = TokenizedConversation(probe=at)
    ids, on = conversation.input_ids, conversation.supervised
    inserted.add([*ids[:at], filler, *ids[at:]][:max_length], [*on[:at], False, *on[at:]][:max_length])
    return inserted
