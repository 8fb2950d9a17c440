r"""What a record says of its image: a path below a root, or another form, which is named.

coco/a.jpg     a path below an image root: always read
/data/a.jpg  ~/a.jpg  ..\a.jpg  file:///data/a.jpg  data:image/png;base64,...  iVBORw0...     with `image_forms: any`
https://...    never fetched by a build: download the images first
"""

import base64
import binascii
import os
import re
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from data_prep.parquet_cell import ParquetBytes
from data_prep.readers.conversation_dialects import shown

BASE64 = re.compile(r"[A-Za-z0-9+/_\-\s]{120,}={0,2}\s*")
URL = re.compile(r"(?!file:)[a-z][a-z0-9+.\-]*://", re.IGNORECASE)
ALLOW = "allow it with the option image_forms: any"


class ImageFormError(Exception):
    """An image value that cannot be read as it is; the text is the reason of a drop."""


def image_value(value: Any, *, any_form: bool) -> Path | bytes | ParquetBytes | str:
    """A path relative to the image roots (a text), an absolute path, or the image's bytes.

    Raises `ImageFormError` that says what the value is, and what to do.
    """
    if isinstance(value, Mapping):
        inner = value.get("bytes") or value.get("path") or value.get("url")
        if not isinstance(inner, str | bytes | ParquetBytes):
            raise ImageFormError(f"image as an object with the keys {', '.join(map(str, value))}: give its path")
        return image_value(inner, any_form=any_form)
    if isinstance(value, bytes | ParquetBytes):
        return value
    if not isinstance(value, str):
        raise ImageFormError(f"unsafe image path: {shown(value)} is no text")
    text = value.strip()
    if URL.match(text):
        raise ImageFormError(f"image behind a URL: {shown(text)}; download the images and give their paths")
    if text[:5].lower() == "data:":
        head, _, data = text.partition(",")
        if not head.lower().endswith(";base64"):
            raise ImageFormError(f"image as a data URI without base64: {shown(text)}; give its path")
        return _decoded(unquote(data), "a data URI", any_form=any_form)
    if BASE64.fullmatch(text) and len(text) > 200:
        return _decoded(text, "base64", any_form=any_form)
    if text.lower().startswith("file:"):
        path = unquote(urlsplit(text).path)
        return _elsewhere(path, "a file: URL", any_form=any_form) if path.startswith("/") else path
    if text.startswith("~"):
        return _elsewhere(text, "a path in a home folder", any_form=any_form)
    if re.match(r"[A-Za-z]:[\\/]", text) or "\\" in text:
        if not any_form:
            raise ImageFormError(f"Windows path: {shown(text)} has backslashes; write it with /, or {ALLOW}")
        text = text.replace("\\", "/")
    if text.startswith("/"):
        return _elsewhere(text, "an absolute path", any_form=any_form)
    relative = PurePosixPath(text)
    if not text or "\0" in text or (".." in relative.parts and not any_form):
        raise ImageFormError(f"unsafe image path: {shown(value)} does not stay in its folder")
    return text


def _elsewhere(path: str, kind: str, *, any_form: bool) -> Path:
    if not any_form:
        raise ImageFormError(f"unsafe image path: {shown(path)} is {kind} and does not stay in its folder; {ALLOW}")
    return Path(path).expanduser()


def existing_spelling(file: Path) -> Path | None:
    """`file`, or the same name with %20 and the like decoded, or in the other Unicode form; None if there is none."""
    return next((found for found in _spellings(file) if os.path.isfile(found)), None)  # noqa: PTH113 - is_file raises


def _spellings(file: Path) -> Iterator[Path]:
    """Spellings of one path; archives of macOS and browsers change names without telling the data file."""
    yield file
    names = {str(file)}
    if ".." not in Path(unquote(str(file))).parts:  # a code must not lead out of the folder
        names.add(unquote(str(file)))
    for name in sorted(names | {unicodedata.normalize(form, name) for form in ("NFC", "NFD") for name in names}):
        yield Path(name)


def _decoded(text: str, kind: str, *, any_form: bool) -> bytes:
    if not any_form:
        raise ImageFormError(f"image as {kind} inside the record ({len(text):,} characters): {ALLOW}")
    try:
        plain = re.sub(r"\s", "", text).rstrip("=").translate({ord("-"): "+", ord("_"): "/"})
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise ImageFormError(f"image as {kind} that does not decode ({len(text):,} characters)") from None
