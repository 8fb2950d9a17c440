"""One conversation record in any of the usual forms, as LLaVA's: turns from human and gpt, and one image at most.

    {"image": "a.jpg", "conversations": [{"from": "human", "value": "<image>What?"}, {"from": "gpt", ...}]}
    {"images": ["a.jpg"], "messages": [{"role": "user", "content": "<image>What?"}, {"role": "assistant", ...}]}

Roles are read in any case: human or user, gpt or assistant (also model, bot, chatbot). A system message is kept in
`meta`; what is rendered is the run's `chat.system_prompt`. Content may be a text, or parts of types text and image.
"""

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from configs.errors import DataError
from data_prep.sample import IMAGE_PLACEHOLDER, Turn

SPEAKERS = {"human": "human", "user": "human"} | dict.fromkeys(("gpt", "assistant", "model", "bot", "chatbot"), "gpt")
TURN_KEYS = ("conversations", "messages", "conversation")
IMAGE_KEYS = ("image", "images")
UNREAD_KEYS = ("image_path", "img", "img_path", "image_file", "picture", "photo", "video", "videos", "audio", "audios")
UNREAD_TAG = re.compile(r"<img>[^<]{1,400}</img>|^\s*<(?:Image|IMAGE|video|audio|img|image_\d+)>|<\|image_\d+\|>")
SHOWN = 80  # characters of a value in a message


def shown(value: object) -> str:
    """A value for a message: never longer than a line.

    >>> shown("x" * 100)[-30:]
    "xxxxxxxxxxxxx...' (100 characters)"
    """
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}...{text[0]} ({len(str(value)):,} characters)"


def turns_of(row: Mapping[str, Any]) -> tuple[tuple[Turn, ...], str | None]:
    """The turns of a record, and its system message.

    Raises `DataError` that says which form is wanted, or `TypeError` for a turn whose text is none.
    """
    key = next((key for key in TURN_KEYS if key in row), None)
    if key is None:
        raise DataError(
            f"no list 'conversations' or 'messages'; its keys are {', '.join(map(str, row)) or 'none'} (the reader"
            " jsonl reads records of a question, or of a label)"
        )
    listed = row[key]
    if isinstance(listed, str):
        try:
            listed = json.loads(listed)
        except ValueError:
            raise DataError(f"'{key}' is a text, {shown(listed)}, and no JSON list of turns") from None
    if not isinstance(listed, list):
        raise DataError(f"'{key}' is {shown(listed)}; it must be a list of {{from, value}} or {{role, content}}")
    turns, system = [], row.get("system") if isinstance(row.get("system"), str) else None
    for number, turn in enumerate(listed):
        speaker, text = _turn(turn, number)
        if speaker == "system":
            system = text
        else:
            turns.append(Turn(speaker, text))  # type: ignore[arg-type]
    return tuple(turns), system


def _turn(turn: Any, number: int) -> tuple[str, str]:
    if not isinstance(turn, Mapping):
        raise DataError(f"turn {number} is {shown(turn)}; it must be {{from, value}} or {{role, content}}")
    role = turn.get("from", turn.get("role"))
    text = turn["value"] if "value" in turn else turn.get("content")
    speaker = SPEAKERS.get(str(role).strip().lower(), "system" if str(role).strip().lower() == "system" else None)
    if speaker is None:
        raise DataError(f"unknown speaker {shown(role)}: a turn is from human (user) or gpt (assistant)")
    if isinstance(text, list):
        text = _parts(text, number)
    if not isinstance(text, str):
        raise TypeError(f"the text of turn {number} is {shown(text)}, not a text")
    return speaker, text


def _parts(parts: list[Any], number: int) -> str:
    """Content parts as one text: images before words, as LLaVA puts them."""
    images, words = 0, []
    for part in parts:
        kind = part.get("type") if isinstance(part, Mapping) else "text" if isinstance(part, str) else None
        if kind in ("image", "image_url", "input_image"):
            images += 1
        elif kind in ("text", "input_text", "output_text"):
            words.append(part if isinstance(part, str) else str(part.get("text") or part.get("content") or ""))
        else:
            raise DataError(f"turn {number} has a part of type {shown(kind)}; text and image are read")
    return "\n".join([IMAGE_PLACEHOLDER] * images + words)


def image_of(row: Mapping[str, Any], image_key: str | None = None) -> Any:
    """The record's image value, unchanged; None if it has none.

    Raises `DataError` for several images, and for an image under a key or tag that is not read.
    """
    keys = (image_key,) if image_key else IMAGE_KEYS
    found = [row[key] for key in keys if key in row and not is_nothing(row[key])]
    value = found[0] if found else None
    if isinstance(value, list):
        if len(value) > 1:
            raise DataError(f"several images: {len(value)}; a sample has at most one")
        value = value[0]
    if value is not None:
        return value
    lowered = {str(key).lower(): key for key in row}
    for name in (*UNREAD_KEYS, *IMAGE_KEYS):
        key = lowered.get(name)
        if key is not None and key not in keys and not is_nothing(row[key]):
            raise DataError(f"image under another key: {key!r} is not read; set the option image_key, or call it image")
    return None


def unread_tag(turns: tuple[Turn, ...]) -> str | None:
    """A tag of an image, video or audio that is not read, such as `<img>a.jpg</img>`; None if there is none."""
    for turn in turns:
        if match := UNREAD_TAG.search(turn.text):
            return match[0].strip()[:SHOWN]
    return None


def is_nothing(value: Any) -> bool:
    """Whether a value says that there is no image: null, "", "None", NaN, [], or a list or object of such."""
    if isinstance(value, list | Mapping):
        return all(map(is_nothing, value.values() if isinstance(value, Mapping) else value))
    if isinstance(value, float):
        return math.isnan(value)
    return value is None or (isinstance(value, str) and value.strip().lower() in ("", "none", "null", "nan"))
