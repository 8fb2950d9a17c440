"""Chat messages in the OpenAI wire format: texts, and images as data URIs.

    request_body("gpt-4o", [Message("user", "What is this?", (ImagePart.of_reader(path.read_bytes),))], config.api, 64)

An image goes after the text or before it as `api.image_position` says, and is sent as it is stored where servers accept
its format (`sendable`).
"""

import base64
import hashlib
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from PIL import Image

from configs.api import ApiConfig
from data_prep.images import decode_rgb, opened_image, true_extension
from data_prep.orientation import NORMAL, UprightImage, orientation_of

MEDIA = {"jpg": "image/jpeg", "png": "image/png", "webp": "image/webp"}  # Gemini refuses GIF, OpenAI animated ones


@dataclass(frozen=True, slots=True)
class ImagePart:
    """An image of a message; its bytes are loaded when the request is sent and not kept.

    `key` identifies the content in the hash of a request. `load` returns (media type, bytes) as they are sent, and may
    raise `DataError`.
    """

    key: str
    load: Callable[[], tuple[str, bytes]] = field(compare=False)

    @classmethod
    def of_reader(cls, read: Callable[[], bytes]) -> "ImagePart":
        """An image that `read` returns, at each call the same: called here once for its key."""
        first = read()
        turned = "upright " if isinstance(first, UprightImage) else ""
        return cls(turned + hashlib.sha256(first).hexdigest(), lambda: sendable(read()))


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a chat: `role` is system, user or assistant."""

    role: str
    text: str
    images: tuple[ImagePart, ...] = ()


def request_body(name: str, messages: Sequence[Message], api: ApiConfig, limit: int | None) -> bytes:
    """The JSON of a request to the model `name`; `limit` is the longest answer in tokens, None for no limit.

    Raises `DataError` (or `ImageError`) if an image is missing or does not decode.
    """
    sent = with_system_role(messages, api.system_role)
    values: dict[str, Any] = {"model": name, "messages": [_wire(name, message, api) for message in sent]}
    if api.length_field != "none" and limit is not None:
        values[api.length_field] = limit
    if api.temperature is not None:
        values["temperature"] = api.temperature
    if api.reasoning_effort is not None:
        values["reasoning_effort"] = api.reasoning_effort
    return json.dumps(values).encode()


def with_system_role(messages: Sequence[Message], role: str) -> list[Message]:
    """The messages with their system prompts in the `role` that the server knows (`api.system_role`)."""
    if role != "user":
        return [replace(m, role=role) if m.role == "system" else m for m in messages]
    prompts = [m.text for m in messages if m.role == "system"]
    rest = [m for m in messages if m.role != "system"]
    first = next((number for number, m in enumerate(rest) if m.role == "user"), None)
    if prompts and first is not None:
        rest[first] = replace(rest[first], text="\n\n".join((*prompts, rest[first].text)))
    return rest


def image_is_first(name: str, api: ApiConfig) -> bool:
    """Whether images go before the text."""
    return api.image_position == "before" or (api.image_position == "official" and is_claude(name))


def is_claude(name: str) -> bool:
    """Whether the model's name says that it is a Claude; the authors' calls of these differ from the others."""
    return "claude" in name.lower()


def _wire(name: str, message: Message, api: ApiConfig) -> dict[str, Any]:
    if not message.images:
        return {"role": message.role, "content": message.text}
    text = {"type": "text", "text": message.text}
    images = [_image(image, api) for image in message.images]
    return {"role": message.role, "content": [*images, text] if image_is_first(name, api) else [text, *images]}


def _image(image: ImagePart, api: ApiConfig) -> dict[str, Any]:
    media, data = shrunk(image.load(), api.image_side)
    value = {"url": f"data:{media};base64,{base64.b64encode(data).decode()}"}
    if api.image_detail is not None:
        value["detail"] = api.image_detail
    return {"type": "image_url", "image_url": value}


def sendable(image: bytes) -> tuple[str, bytes]:
    """(media type, bytes): the file unchanged, or converted to PNG if its format is not one of `MEDIA`.

    A photograph with an EXIF orientation is encoded again without it, turned or not as `data.exif` says, since servers
    differ in whether they apply it. Raises `ImageError` if the image does not decode, before a paid request is sent.
    """
    decoded = decode_rgb(image)
    extension = true_extension(image)
    with opened_image(image) as header:
        oriented = orientation_of(header) != NORMAL
    if extension in MEDIA and not oriented:
        return MEDIA[extension], image
    return _encoded(decoded, "jpg" if extension == "jpg" else "png")


def shrunk(image: tuple[str, bytes], side: int | None) -> tuple[str, bytes]:
    """The image of `sendable` with a longer side of at most `side` pixels; unchanged if it has no more."""
    media, data = image
    if side is None:
        return image
    with opened_image(data) as header:
        if max(header.size) <= side:
            return image
    decoded = decode_rgb(data)
    decoded.thumbnail((side, side), Image.Resampling.LANCZOS)
    return _encoded(decoded, "jpg" if media == MEDIA["jpg"] else "png")


def _encoded(image: Image.Image, extension: str) -> tuple[str, bytes]:
    """(media type, bytes) of an image as a JPEG of high quality (jpg) or a PNG."""
    buffer = io.BytesIO()
    if extension == "jpg":
        image.save(buffer, format="JPEG", quality=95, subsampling=0)
    else:
        image.save(buffer, format="PNG")
    return MEDIA[extension], buffer.getvalue()
