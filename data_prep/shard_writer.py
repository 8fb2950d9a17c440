"""Records to shards: each record is validated once, each shard is written completely or not at all.

The bytes do not depend on which worker writes a shard, or when.
"""

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from configs.shard_dir import ShardDir
from data_prep import atomic, ustar
from data_prep.image_notes import NoteBook
from data_prep.manifest import ReferencedFile
from data_prep.records import Record
from data_prep.remote_tars import RemoteTar
from data_prep.sample import Drop
from data_prep.shard_index import IMAGE_EXTENSIONS, id_hash
from data_prep.sidecar import Recipe, Sidecar, records_fingerprint
from data_prep.validate import Member

ProgressCallback = Callable[[Drop | None], None]  # called for every record, with its drop if it was dropped


@dataclass(slots=True)
class _Tar:
    """A tar under construction, hashed while it is written."""

    file: BinaryIO
    offset: int = 0
    sha256: Any = field(default_factory=hashlib.sha256)

    def append(self, *parts: bytes) -> None:
        """Append `parts` in one system call."""
        size = sum(map(len, parts))
        written = os.writev(self.file.fileno(), parts)
        while written < size:  # a nearly full disk accepts a part before it refuses
            written += os.write(self.file.fileno(), b"".join(parts)[written:])
        for part in parts:
            self.sha256.update(part)
        self.offset += size


def write_shard(
    folder: ShardDir, number: int, records: Sequence[Record], recipe: Recipe, progress: ProgressCallback
) -> Sidecar:
    """Write shard `number` and its sidecar."""
    drops: list[Drop] = []
    notes = NoteBook()
    rows: list[list[int]] = []
    image_hashes: list[int] = []
    referenced: dict[Path | RemoteTar, int] = {}  # to their numbers, from 1
    first = number * recipe.samples_per_shard
    fingerprint, texts = records_fingerprint(records)
    with atomic.atomic_file(folder.shard(number)) as file:
        tar = _Tar(file)
        for position, record in enumerate(records):
            member = recipe.validate(record)
            if isinstance(member, Drop):
                drops.append(member)
            else:
                rows.append(_add(tar, f"{first + position:09d}", member, referenced))
                notes.add(member.notes, record.id)
                image_hashes.append(member.image_hash)
            progress(member if isinstance(member, Drop) else None)
        tar.append(ustar.END_OF_ARCHIVE)
    sidecar = Sidecar(
        recipe=recipe.settings(),
        fingerprint=fingerprint,
        records=len(records),
        bytes=tar.offset,
        sha256=tar.sha256.hexdigest(),
        drops=tuple(drops),
        files=tuple(map(_referenced_file, referenced)),
        rows=rows,
        texts=texts,
        notes=notes.notes(),
        image_xxh3=image_hashes,
    )
    sidecar.write(folder.sidecar(number))
    return sidecar


def _referenced_file(file: Path | RemoteTar) -> ReferencedFile:
    if isinstance(file, Path):
        return ReferencedFile(str(file), file.stat().st_size)
    return ReferencedFile(file.file.url, file.file.bytes, file.file.sha256)


def _add(tar: _Tar, key: str, member: Member, referenced: dict[Path | RemoteTar, int]) -> list[int]:
    """Append a sample's members, image first, and return its row of the index (`COLUMNS`).

    An image that stays in its own file is not appended; the file is added to `referenced`.
    """
    image_file = image_offset = 0
    text = b"".join((ustar.header(f"{key}.json", len(member.text)), member.text, ustar.padding(len(member.text))))
    if member.referenced is not None:
        image_file = referenced.setdefault(member.referenced.file, len(referenced) + 1)
        image_offset = member.referenced.offset
        tar.append(text)
    elif member.extension:
        image_offset = tar.offset + ustar.BLOCK
        header = ustar.header(f"{key}.{member.extension}", len(member.image))
        tar.append(header, member.image, ustar.padding(len(member.image)) + text)
    else:
        tar.append(text)
    json_offset = tar.offset - len(text) + ustar.BLOCK
    return [
        IMAGE_EXTENSIONS.index(member.extension),
        member.label,
        image_file,
        image_offset,
        len(member.image),
        json_offset,
        len(member.text),
        member.width,
        member.height,
        member.checksum,
        id_hash(member.id),
    ]
