"""Is a reply a caption that names the class?

A caption counts if it contains the class name as words, in upper or lower case, also in the plural. Whatever counts
here also counts in an evaluation of captions (`eval.scorers.match.score_contains`).
"""

import re
import unicodedata

from data_prep.api.reply import Reply
from data_prep.sample import IMAGE_PLACEHOLDER

CAPTION = "caption"
REFUSAL = "refusal"
EMPTY = "empty reply"
CUT = "cut off at the limit of tokens"
NO_CLASS_NAME = "no class name"
PLACEHOLDER = f"{IMAGE_PLACEHOLDER} in the text"
FAULTS = (REFUSAL, EMPTY, CUT, NO_CLASS_NAME, PLACEHOLDER)

_CANNOT = (
    r"(?:can(?:no|['’]?)t|am (?:unable|not able)|['’]m (?:unable|not able)|won['’]?t|will not|must decline|decline)"
)
_REFUSAL = re.compile(
    rf"(?:(?:i['’]?m|i am) (?:very |really |so )?(?:sorry|afraid)\b|sorry\b|unfortunately\b|i apologi[sz]e|"
    rf"my apologies|as an ai\b|(?:i|we)(?: |(?=['’])){_CANNOT})",
    re.IGNORECASE,
)
_HEADING = re.compile(
    r"^(?:(?:(?:sure|certainly|of course|okay)[!,.]? )?here(?:['’]s| is)[^.:]{0,40}\bcaption\b[^.:]{0,60}:\s*)?"
    r"(?:(?:\*\*|__)?(?:short )?caption(?:\*\*|__)?\s*:(?:\*\*|__)?\s*)?",
    re.IGNORECASE,
)
_QUOTES = (('"', '"'), ("“", "”"), ("„", "“"), ("«", "»"), ("'", "'"), ("‘", "’"), ("**", "**"), ("`", "`"))


def plain_caption(text: str) -> str:
    """The caption in a reply: on one line, in Unicode's form NFC as class names are, without a heading or lead.

    A heading is "Caption:" or "Here is a short caption for the image:"; quotation marks around all of it are removed.

    >>> plain_caption('**Caption:** "A guinea pig in the grass."')
    'A guinea pig in the grass.'
    """
    caption = _HEADING.sub("", unicodedata.normalize("NFC", " ".join(text.split())))
    for start, end in _QUOTES:
        inside = caption[len(start) : -len(end)]
        if len(caption) > len(start) + len(end) and caption.startswith(start) and caption.endswith(end):
            caption = inside.strip() if start not in inside and end not in inside else caption
    return caption


def names_class(caption: str, name: str) -> bool:
    """Whether the caption contains the class name as words, also in the plural.

    >>> names_class("Two Guinea pigs", "guinea pig"), names_class("A caterpillar", "cat")
    (True, False)
    """
    words = re.escape(" ".join(name.split()).lower())
    return re.search(rf"(?<!\w){words}(?:e?s)?(?!\w)", caption.lower()) is not None


def kind_of_reply(reply: Reply, name: str) -> str:
    """`CAPTION`, or what is wrong with the reply: one of `FAULTS`."""
    caption = plain_caption(reply.text)
    if reply.refused or _REFUSAL.match(caption):
        return REFUSAL
    if reply.cut:
        return CUT
    if not caption:
        return EMPTY
    if IMAGE_PLACEHOLDER in caption:
        return PLACEHOLDER
    return CAPTION if names_class(caption, name) else NO_CLASS_NAME
