"""The token ids with which every conversation begins: the system prompt, up to the image or the question.

prefix = constant_prefix(renderer)                # with LLaVA's system prompt 35 ids
shared_length(conversations, prefix)              # how many of them a batch can leave out
"""

from collections.abc import Sequence
from itertools import takewhile

from data_prep.sample import IMAGE_PLACEHOLDER, Turn
from train.chat.conversation import IMAGE_INDEX
from train.chat.renderer import Renderer

QUESTIONS = ("What is it?", "Describe", "5")  # with nothing in common


def constant_prefix(renderer: Renderer) -> tuple[int, ...]:
    """Ids before the image that do not depend on the question; may be empty."""
    rendered = [
        renderer.render((Turn("human", f"{image}{question}"), Turn("gpt", "a"))).input_ids
        for question in QUESTIONS
        for image in (f"{IMAGE_PLACEHOLDER}\n", "")
        if image or not renderer.images_first
    ]
    common = takewhile(lambda ids: len(set(ids)) == 1 and ids[0] != IMAGE_INDEX, zip(*rendered, strict=False))
    return tuple(ids[0] for ids in common)


def shared_length(conversations: Sequence[tuple[Sequence[int], Sequence[bool]]], prefix: Sequence[int]) -> int:
    """How many ids of `prefix` begin all of these conversations (ids, supervised).

    Each keeps at least one token, and the token before its first supervised one: that one predicts a target.
    """
    shared = len(prefix)
    for ids, supervised in conversations:
        shared = min(shared, len(ids) - 1)
        while shared and (list(ids[:shared]) != list(prefix[:shared]) or any(supervised[1 : shared + 1])):
            shared -= 1
    return shared
