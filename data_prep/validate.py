"""Checks a record once before it is stored: its conversation, its label, its image.

The reason of a drop reads `kind: detail`; reports count by kind.
"""

import errno
import os
from dataclasses import dataclass
from pathlib import Path

from configs.errors import DataError
from data_prep.checksum import crc32
from data_prep.drops import printable
from data_prep.file_range import FileRange
from data_prep.image_notes import image_notes, text_note
from data_prep.images import ImageError, check_image, image_size, true_extension
from data_prep.orientation import UprightImage
from data_prep.records import Record
from data_prep.sample import IMAGE_PLACEHOLDER, OWN_ID, Drop, ImageOrigin, Sample
from data_prep.shard_index import image_hash

NO_NAME = "missing file: no file can have such a name"


@dataclass(frozen=True, slots=True)
class Member:
    """A valid sample: the bytes to store and its entries in the index."""

    extension: str
    image: bytes
    text: bytes
    label: int
    width: int
    height: int
    id: str
    notes: tuple[str, ...] = ()  # what the build says of it (`data_prep.image_notes`)
    referenced: FileRange | None = None  # the image's own file, if it is not copied

    @property
    def checksum(self) -> int:
        """crc32 of the image's bytes followed by the json's, as the index holds it."""
        return crc32(self.text, crc32(self.image))

    @property
    def image_hash(self) -> int:
        """A hash of the image's bytes, 0 without an image."""
        return image_hash(self.image)


def validate_record(record: Record, source: str, classes: int, *, decode: bool, upright: bool = False) -> Member | Drop:
    """A member to store for a record of `source`, or a drop with its reason.

    With `decode` the image is decoded to its last pixel, otherwise only its header is read. `upright`: its EXIF
    orientation is applied when it is decoded.
    Raises `DataError` if the storage fails (rather than dropping records that are fine).
    """
    if isinstance(record, Drop):
        return _drop(record, record.reason, record.file)
    file = str(record.image) if isinstance(record.image, Path) else None
    reason = unusable(record, classes)
    if reason:
        return _drop(record, reason, file)
    try:
        image = read_image(record.image)
        extension, width, height, notes = "", 0, 0, tuple[str, ...]()
        if image is not None:
            extension = true_extension(image)
            shown = UprightImage(image) if upright else image
            width, height = check_image(shown) if decode else image_size(shown)
            notes = image_notes(shown, decoded=decode)
    except ImageError as error:
        return _drop(record, str(error), file)
    stored = Sample(
        id=f"{source}/{record.id}",
        turns=record.turns,
        label=record.label,
        label_name=record.label_name,
        meta=record.meta,
    )
    try:
        text = stored.to_json().encode()
    except UnicodeEncodeError:
        return _drop(record, "not Unicode: its name or text holds a byte or surrogate that is no character", file)
    label = -1 if record.label is None else record.label
    origin = record.image
    referenced = origin if isinstance(origin, FileRange) and origin.in_place else None
    notes += text_note(turn.text for turn in record.turns)
    return Member(extension, image or b"", text, label, width, height, stored.id, notes, referenced)


def _drop(record: Record, reason: str, file: str | None) -> Drop:
    """A drop that can be written and printed: bytes that are not UTF-8 become escapes."""
    own = record.own_id if isinstance(record, Drop) else record.meta.get(OWN_ID)
    return Drop(
        printable(record.id),
        printable(reason),
        None if file is None else printable(file),
        None if own is None else printable(str(own)),
    )


def read_image(origin: ImageOrigin | None) -> bytes | None:
    """The image's bytes. Raises `ImageError` if the file is missing, `DataError` if it cannot be read."""
    try:
        if origin is None or isinstance(origin, bytes):
            return origin
        return _read_file(origin) if isinstance(origin, Path) else origin()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise ImageError("missing file: the image file does not exist") from error
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise ImageError(NO_NAME) from error
        raise DataError(
            f"{error.filename or origin!r} cannot be read ({os.strerror(error.errno or 0)}); fix the storage or the"
            f" permissions and run the same command again: finished shards are kept"
        ) from error


def unusable(sample: Sample, classes: int) -> str | None:
    """Why a sample cannot be used, as `kind: detail`; None if it can."""
    if sample.label is not None and not 0 <= sample.label < classes:
        return f"label out of range: {sample.label}; the source has {classes} classes"
    speakers = [turn.speaker for turn in sample.turns]
    if not speakers or speakers != [("human", "gpt")[number % 2] for number in range(len(speakers))]:
        return f"turns do not alternate: {', '.join(speakers) or 'there are none'}"
    if any(turn.speaker == "gpt" and not turn.text.strip() for turn in sample.turns):
        return "empty answer: a turn of the assistant has no text"
    placeholders = sum(turn.text.count(IMAGE_PLACEHOLDER) for turn in sample.turns)
    if placeholders != (sample.image is not None):
        hint = "" if placeholders else f"; write {IMAGE_PLACEHOLDER} in a question (llava: missing_placeholder: first)"
        return f"wrong number of {IMAGE_PLACEHOLDER}: {placeholders} for {int(sample.image is not None)} image(s){hint}"
    if any(IMAGE_PLACEHOLDER in turn.text for turn in sample.turns if turn.speaker == "gpt"):
        return f"misplaced {IMAGE_PLACEHOLDER}: it is in an answer"
    return None


def _read_file(path: Path) -> bytes:
    """All bytes of a file, without the layers of `Path.read_bytes`: a build spends its time here."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except ValueError as error:  # a zero byte, or half a character
        raise ImageError(NO_NAME) from error
    try:
        size = os.fstat(descriptor).st_size
        data = os.read(descriptor, size + 1)
        while len(data) < size and (
            more := os.read(descriptor, size - len(data))
        ):  # network file systems may give less
            data += more
        return data
    except OSError as error:
        error.filename = str(path)
        raise
    finally:
        os.close(descriptor)
