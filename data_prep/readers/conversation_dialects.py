"""One conversation record in any of the usual forms, as LLaVA's: turns from human and gpt, and one image at most.

    {"image": "a.jpg", "conversations": [{"from": "human", "value": "<image>What?"}, {"from": "gpt", ...}]}
    {"images": ["a.jpg"], "messages": [{"role": "user", "content": "<image>What?"}, {"role": "assistant", ...}]}

Roles are read in any case: human or user, gpt or assistant (also model, bot, names of chatbots). A system message is
kept in `meta`; what is rendered is the run's `chat.system_prompt`. Content may be a text, or parts of types text and
image. The part may hold the image: {"type": "image", "image": "a.jpg"}.
"""

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from configs.errors import DataError
from data_prep.parquet_cell import ParquetBytes
from data_prep.sample import IMAGE_PLACEHOLDER, Turn

ASSISTANTS = ("gpt", "assistant", "model", "bot", "chatbot", "chatgpt", "ai", "llm", "bing", "bard", "claude")
SPEAKERS = dict.fromkeys(("human", "user", "prompter"), "human") | dict.fromkeys(ASSISTANTS, "gpt")
SPEAKERS |= dict.fromkeys(("system", "developer"), "system")
TEXT_KEYS = ("value", "content", "text")
SWITCHES = ("train", "loss", "weight", "loss_weight")  # of a turn: whether it is a target
TURN_KEYS = ("conversations", "messages", "conversation")
IMAGE_KEYS = ("image", "images")
UNREAD_KEYS = (
    *("image_path", "image_paths", "image_url", "image_urls", "image_file", "image_id", "image_name", "image_base64"),
    *(
        "img",
        "imgs",
        "img_path",
        "pic",
        "picture",
        "photo",
        "frames",
        "video_path",
        "video",
        "videos",
        "audio",
        "audios",
    ),
)
OTHER_MEDIA = ("video", "videos", "audio", "audios")
NO_IMAGES = (
    "id",
    "source",
    "system",
    "conversations",
    "messages",
    "conversation",
)  # keys whose value may look like a path
MEDIA_NAME = re.compile(
    r"(?:data:(?:image|video)/.*|[^\s<>]+\.(?:jpe?g|png|webp|gif|bmp|tiff?|avif|heic|jfif|mp4|webm|avi|mov|mkv))",
    re.IGNORECASE | re.DOTALL,
)
UNREAD_TAG = re.compile(  # what occurs in texts about markup counts at the beginning of a text only
    r"<img>[^<]{1,400}</img>|^\s*(?:<(?:Image|IMAGE|video|audio|img)>|<(?i:image|img|picture)[_ ]?\d+>|\[IMG\]"
    r"|<(?: +image *|image +)>|<image_token>)|<\|(?i:image|img)_?\d+\|>"
    r"|<\|(?:image|image_pad|vision_start|video_pad)\|>"
    r"|<IMG_CONTEXT>|<ImageHere>|<image_soft_token>|<image_placeholder>|<start_of_image>"
)
PART_KEYS = ("image", "image_url", "url", "path", "data", "source")
IMAGE_PARTS = ("image", "image_url", "input_image")
MAX_CHARACTERS = 80  # characters of a value in a message


def shown(value: object) -> str:
    """A value for a message: never longer than a line.

    >>> shown("x" * 100)[-30:]
    "xxxxxxxxxxxxx...' (100 characters)"
    """
    text = repr(value)
    return (
        text if len(text) <= MAX_CHARACTERS else f"{text[:MAX_CHARACTERS]}...{text[0]} ({len(str(value)):,} characters)"
    )


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
    key = next((key for key in TEXT_KEYS if key in turn), None)
    if role is None or key is None:
        raise DataError(
            f"turn {number} has the keys {', '.join(map(str, turn))}: use {{from, value}} or {{role, content}}"
        )
    text, speaker = turn[key], SPEAKERS.get(str(role).strip().rstrip(":").lower())
    if speaker is None:
        raise DataError(f"unknown speaker {shown(role)}: a turn is from human (user) or gpt (assistant)")
    switch = next((name for name in SWITCHES if name in turn and not turn[name] and turn[name] is not None), None)
    if speaker == "gpt" and switch is not None:
        raise DataError(
            f"turn {number} says {switch}: {turn[switch]}, but every answer is trained: split the record, or leave out"
            " the key"
        )
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
        if kind in IMAGE_PARTS:
            images += 1
        elif kind in ("text", "input_text", "output_text"):
            word = part if isinstance(part, str) else part.get("text") or part.get("content") or ""
            if not isinstance(word, str):
                raise TypeError(f"the text of a part of turn {number} is {shown(word)}, not a text")
            words.append(word)
        else:
            raise DataError(f"turn {number} has a part of type {shown(kind)}; text and image are read")
    return "\n".join([IMAGE_PLACEHOLDER] * images + words)


def image_of(row: Mapping[str, Any], image_key: str | None = None) -> Any:
    """The record's image value, unchanged; None if it has none.

    Raises `DataError` for several images, for a video, and for an image under a key that is not read.
    """
    keys = (image_key,) if image_key else IMAGE_KEYS
    found = [row[key] for key in keys if key in row and not is_nothing(row[key])] or _images_in_parts(row)
    several = [item for value in found for item in (value if isinstance(value, list) else [value])]
    distinct = [item for number, item in enumerate(several) if item not in several[:number]]
    if len(distinct) > 1 or any(isinstance(value, list) and len(value) > 1 for value in found):
        raise DataError(f"several images: {len(several)}; a sample has at most one")
    wanted = OTHER_MEDIA if distinct else UNREAD_KEYS + IMAGE_KEYS
    for key, value in row.items():
        if key in keys or is_nothing(value):
            continue
        if _plain(key) in map(_plain, wanted) or (not distinct and key not in NO_IMAGES and _names_media(value)):
            hint = "leave the record out" if distinct else "set the option image_key, or call it image"
            raise DataError(f"image under another key: {key!r} is not read; {hint}")
    return distinct[0] if distinct else None


def _plain(key: object) -> str:
    """A key as it is compared: `imagePath`, `image-path` and `Image_Path` are one."""
    return re.sub(r"[^a-z0-9]", "", str(key).lower())


def _names_media(value: Any) -> bool:
    """Whether a value is the name of an image or video file, an image's bytes, or a list or an object of such."""
    if isinstance(value, list | Mapping):
        return any(map(_names_media, value.values() if isinstance(value, Mapping) else value))
    return isinstance(value, bytes | ParquetBytes) or (
        isinstance(value, str) and bool(MEDIA_NAME.fullmatch(value.strip()))
    )


def _images_in_parts(row: Mapping[str, Any]) -> list[Any]:
    """The images that content parts hold themselves."""
    turns = next((row[key] for key in TURN_KEYS if key in row), None)
    contents = [turn[key] for turn in turns or () if isinstance(turn, Mapping) for key in TEXT_KEYS if key in turn]
    parts = [part for content in contents if isinstance(content, list) for part in content]
    images = [part for part in parts if isinstance(part, Mapping) and part.get("type") in IMAGE_PARTS]
    values = [next((part[key] for key in PART_KEYS if not is_nothing(part.get(key))), None) for part in images]
    return [value for value in values if value is not None]


def unread_tag(turns: tuple[Turn, ...]) -> str | None:
    """A tag of an image, video or audio that is not read, such as `<img>a.jpg</img>`; None if there is none."""
    for turn in turns:
        if match := UNREAD_TAG.search(turn.text):
            return match[0].strip()[:MAX_CHARACTERS]
    return None


def is_nothing(value: Any) -> bool:
    """Whether a value says that there is no image: null, "", "None", NaN, [], or a list or object of such."""
    if isinstance(value, list | Mapping):
        return all(map(is_nothing, value.values() if isinstance(value, Mapping) else value))
    if isinstance(value, float):
        return math.isnan(value)
    return value is None or (isinstance(value, str) and value.strip().lower() in ("", "none", "null", "nan"))
