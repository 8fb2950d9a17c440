"""Tars in the webdataset convention, made elsewhere: members 000.jpg, 000.json, 000.txt, 000.cls of one key in a row.

Only plain tars are read and only the fields asked for, as bytes and text: no member is unpickled, no URL opened, no
path made from a key. What plain streaming readers lose or accept silently is an error or a named drop here: repeated
and scattered members, missing fields, links, absolute or climbing names, archives cut short.
"""

import json
import tarfile
from dataclasses import replace
from pathlib import Path, PurePosixPath

from configs.errors import DataError
from data_prep.class_names import load_class_list
from data_prep.file_range import FileRange
from data_prep.prompts import classification_turns, image_question
from data_prep.records import LazyRecords, Record
from data_prep.sample import Drop, Sample, Source, Turn
from data_prep.ustar import END_OF_ARCHIVE

IMAGES = ("jpg", "jpeg", "png", "webp", "gif", "bmp")
FORBIDDEN = ("pyd", "pkl", "pickle")
MAX_MEMBER = 256_000_000  # bytes

Group = dict[str, FileRange]


def read(
    path: Path,
    *,
    class_names: str | None = None,
    label_field: str = "cls",
    caption_field: str = "txt",
    question: str = "Describe the image concisely.",
    prompt: str = "paper",
    copy: bool = True,
) -> Source:
    """The tar `path`, or all *.tar of a folder in sorted order.

    With `class_names`, `label_field` holds the class index (as text, or in JSON under "label"); without, the answer to
    `question` is the text in `caption_field`. Without `copy` the shards hold no images: the index points into the
    tars, which must stay where they are.
    """
    tars = [path] if path.is_file() else sorted(path.glob("*.tar"))
    if not tars:
        raise DataError(f"{path} has no *.tar; compressed tars must be unpacked first (gunzip)")
    names = load_class_list(class_names).names if class_names else ()
    groups = [found for tar in tars for found in scan(tar)]

    def make(index: int) -> Record:
        key, group = groups[index]
        if isinstance(group, Drop):
            return group
        images = [group[extension] for extension in IMAGES if extension in group]
        field = label_field if names else caption_field
        if len(images) != 1 or field not in group:
            return Drop(key, f"missing or doubled field: it has {', '.join(group)}; one image and {field} are needed")
        image = replace(images[0], in_place=not copy)
        if not names:
            text = group[field]().decode("utf-8", errors="replace").strip()
            return Sample(id=key, image=image, turns=(Turn("human", image_question(question)), Turn("gpt", text)))
        try:
            value = json.loads(group[field]())
            label = int(value["label"] if isinstance(value, dict) else value)
            name = names[label] if label >= 0 else ""
        except (ValueError, KeyError, TypeError, IndexError) as error:
            return Drop(key, f"unreadable label: {type(error).__name__} {error}")
        return Sample(id=key, image=image, label=label, label_name=name, turns=classification_turns(prompt, name))

    return Source(names, LazyRecords(make, len(groups)))


def scan(tar: Path) -> list[tuple[str, Group | Drop]]:
    """(key, fields) of every sample of a tar, in order; a sample that cannot be trusted is a drop."""
    groups: dict[str, Group] = {}
    faults: dict[str, str] = {}
    last = ""
    try:
        with tarfile.open(tar, "r:") as archive:
            for member in archive:
                key, _, field = member.name.partition(".")
                group = groups.setdefault(key, {})
                fault = _fault(member, field.lower())
                if fault is None and (field in group or (group and key != last)):
                    fault = f"repeated or scattered member: {member.name!r} comes after {last!r}"
                if fault is not None:
                    faults.setdefault(key, fault)
                group[field.lower()] = FileRange(tar, member.offset_data, member.size)
                last = key
            _check_end(tar, archive.offset)
    except tarfile.TarError as error:
        raise DataError(f"{tar} is damaged or not a plain tar: {error}; fetch it again, or gunzip it") from error
    drops = {key: Drop(f"{tar.stem}/{key}", fault, str(tar)) for key, fault in faults.items()}
    return [(f"{tar.stem}/{key}", drops.get(key, group)) for key, group in groups.items()]


def _fault(member: tarfile.TarInfo, field: str) -> str | None:
    """Why a member makes its sample unusable."""
    if not member.isreg():
        return f"not a file: member {member.name!r} is a link, folder or device"
    if PurePosixPath(member.name).is_absolute() or ".." in PurePosixPath(member.name).parts:
        return f"unsafe name: {member.name!r} leaves its folder"
    if field.rpartition(".")[2] in FORBIDDEN:
        return f"forbidden field: {member.name!r} could run code when it is read"
    if not field or "." in field:
        return f"ambiguous key: {member.name!r}; a key ends at the first dot, and one field follows"
    return f"too large: {member.name!r} has {member.size} bytes" if member.size > MAX_MEMBER else None


def _check_end(tar: Path, offset: int) -> None:
    """Raise `DataError` unless the archive ends, at `offset`, with two zero blocks and nothing after them.

    Readers of tars take a damaged header, a zeroed block and a missing rest for the end, without an error.
    """
    zeros = 0
    with tar.open("rb") as file:
        file.seek(offset)
        while data := file.read(1 << 20):
            if any(data):
                raise DataError(f"{tar} is damaged: byte {offset + zeros} begins no member and is not the end")
            zeros += len(data)
    if zeros < len(END_OF_ARCHIVE):
        raise DataError(f"{tar} is cut short: it has no end-of-archive mark at byte {offset}; fetch it again")
