"""Index of a tar in the webdataset convention: members 000.jpg, 000.json, 000.cls of one key in a row.

Only plain tars are read, only as bytes and text: no member is unpickled, no path is made from a key. What plain
streaming readers lose or accept silently is an error or a named fault here: repeated and scattered members, links,
absolute or climbing names, archives cut short.
"""

import tarfile
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from configs.errors import DataError
from data_prep.ustar import END_OF_ARCHIVE

IMAGES = ("jpg", "jpeg", "jpe", "jfif", "png", "webp", "gif", "bmp", "tif", "tiff", "avif")
FORBIDDEN = ("pyd", "pkl", "pickle")
MAX_MEMBER = 256_000_000  # bytes
MAX_TEXT = 1 << 16  # bytes of a member that is kept as text


class Field(NamedTuple):
    """One member: its bytes in the tar, and what it says if that was kept."""

    offset: int
    size: int
    text: str | None = None


Fields = dict[str, Field]
Entry = tuple[str, Fields | str]


def index_tar(tar: Path, name: str, *, keep_text: bool = False) -> list[Entry]:
    """(key, its fields, or why it cannot be trusted) of every sample of `tar`, in order; messages call the tar `name`.

    With `keep_text` what short members other than images say is kept, so that only images need the tar again.
    Raises `DataError` for an archive that is damaged, cut short or compressed.
    """
    groups: dict[str, Fields] = {}
    faults: dict[str, str] = {}
    last = ""
    try:
        with tarfile.open(tar, "r:") as archive:
            for member in archive:
                if member.isdir() or left_by_a_system(member.name):  # `tar cf x.tar folder` writes them
                    continue
                key, field = _key(member.name)
                group = groups.setdefault(key, {})
                fault = _fault(member, field)
                if fault is None and (field in group or (group and key != last)):
                    fault = f"repeated or scattered member: {member.name!r} comes after {last!r}"
                if fault is not None:
                    faults.setdefault(key, fault)
                text = _text(archive, member) if keep_text and field not in IMAGES and key not in faults else None
                group[field] = Field(member.offset_data, member.size, text)
                last = key
            with tar.open("rb") as file:
                check_end(file, name, archive.offset)
    except tarfile.TarError as error:
        raise DataError(f"{name} is damaged or not a plain tar: {error}; fetch it again, or gunzip it") from error
    return [entry for key, group in groups.items() for entry in _entries(key, group, faults.get(key))]


def _entries(key: str, group: Fields, fault: str | None) -> list[Entry]:
    """The entry of a key; one for each image that is lost where names with dots share a key ("img_1.0.jpg", ...)."""
    if fault is None:
        return [(key, group)]
    lost = [field for field in group if field.rpartition(".")[2] in IMAGES]
    return [(f"{key}.{field.rpartition('.')[0]}", fault) for field in lost] if len(lost) > 1 else [(key, fault)]


def left_by_a_system(name: str) -> bool:
    """Whether a member was added by macOS: AppleDouble (`._a.jpg`) or .DS_Store."""
    last = name.rpartition("/")[2]
    return last.startswith("._") or last == ".DS_Store"


def _key(name: str) -> tuple[str, str]:
    """Key and field of a member: split at the first dot of its last part, as the webdataset package does it."""
    folder, slash, last = name.rpartition("/")
    stem, _, field = last.partition(".")
    return (f"{folder}{slash}{stem}", field.lower()) if stem else (name, "")


def _text(archive: tarfile.TarFile, member: tarfile.TarInfo) -> str | None:
    if member.size > MAX_TEXT:
        return None
    stream = archive.extractfile(member)
    try:
        return stream.read().decode() if stream else None
    except UnicodeDecodeError:
        return None


def _fault(member: tarfile.TarInfo, field: str) -> str | None:
    """Why a member makes its sample unusable."""
    if not member.isreg():
        return f"not a file: member {member.name!r} is a link or device"
    if PurePosixPath(member.name).is_absolute() or ".." in PurePosixPath(member.name).parts:
        return f"unsafe name: {member.name!r} leaves its folder"
    if field.rpartition(".")[2] in FORBIDDEN:
        return f"forbidden field: {member.name!r} could run code when it is read"
    if not field or "." in field:
        return f"ambiguous key: {member.name!r}; a key ends at the first dot, and one field follows"
    return f"too large: {member.name!r} has {member.size} bytes" if member.size > MAX_MEMBER else None


def check_end(file: IO[bytes], name: str, offset: int) -> None:
    """Raise `DataError` unless the archive ends, at `offset`, with two zero blocks and nothing after them.

    Readers of tars take a damaged header, a zeroed block and a missing rest for the end, without an error.
    """
    zeros = 0
    file.seek(offset)
    while data := file.read(1 << 20):
        if any(data):
            raise DataError(f"{name} is damaged: byte {offset + zeros} begins no member and is not the end")
        zeros += len(data)
    if zeros < len(END_OF_ARCHIVE):
        raise DataError(f"{name} is cut short: it has no end-of-archive mark at byte {offset}; fetch it again")
