"""Sidecars: the description of one finished shard, which decides whether a later build keeps it.

A sidecar lists what the shard's bytes depend on: the recipe (how the source was read) and a fingerprint of its
records. A finished shard is kept only while both agree, so a killed build continues where it stopped and a changed
source is noticed.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from configs.data import APPLY, DataConfig
from configs.errors import DataError
from configs.shard_dir import ShardDir
from data_prep import atomic
from data_prep.file_range import FileRange
from data_prep.image_notes import Notes, notes_as_json, notes_from_json
from data_prep.manifest import FORMAT_VERSION, ReferencedFile, ShardEntry
from data_prep.parquet_cell import ParquetBytes
from data_prep.records import Record
from data_prep.sample import Drop, ImageOrigin, Sample, Source
from data_prep.shard_index import INDEX_DTYPE
from data_prep.validate import Member, validate_record

COLUMNS = tuple(name for name in INDEX_DTYPE.names or () if name != "shard")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a source becomes shards: everything except its records that determines the shards' bytes.

    `path` does not: data that was moved are the same data.
    """

    source: str
    reader: str
    path: str | None
    options: Mapping[str, Any]
    samples_per_shard: int
    decode_check: bool
    exif: str
    class_names: tuple[str, ...]

    @classmethod
    def of(cls, name: str, data: DataConfig, source: Source) -> "Recipe":
        """The recipe of the source `name` of `data`."""
        config = data.sources[name]
        return cls(
            source=name,
            reader=config.reader,
            path=config.path,
            options=config.options,
            samples_per_shard=data.samples_per_shard,
            decode_check=data.decode_check,
            exif=data.exif,
            class_names=source.class_names,
        )

    def validate(self, record: Record) -> Member | Drop:
        """A member to store, or a drop with its reason. Raises as `validate_record`."""
        upright = self.exif == APPLY
        return validate_record(record, self.source, len(self.class_names), decode=self.decode_check, upright=upright)

    def settings(self) -> dict[str, str]:
        """The recipe as short texts, for comparison and for messages."""
        names = [spec.name for spec in fields(self) if spec.name != "path"]
        settings = {name: json.dumps(getattr(self, name), sort_keys=True) for name in names}
        settings["class_names"] = hashlib.sha256(settings["class_names"].encode()).hexdigest()[:16]
        return {"format_version": str(FORMAT_VERSION), **settings}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sidecar:
    """One finished shard; `rows` has one list per sample, in the order of `COLUMNS`.

    `image_xxh3` has the `image_hash` of each sample's image.
    `fingerprint` and `texts` are `records_fingerprint` with and without what the images are.
    """

    recipe: Mapping[str, str]
    fingerprint: str
    records: int
    bytes: int
    sha256: str
    drops: tuple[Drop, ...]
    files: tuple[ReferencedFile, ...]
    rows: list[list[int]]
    texts: str
    notes: Notes
    image_xxh3: list[int]

    def entry(self, name: str) -> ShardEntry:
        """The manifest's line for this shard."""
        return ShardEntry(name, len(self.rows), self.bytes, self.sha256)

    def write(self, path: Path) -> None:
        """Write the sidecar atomically."""
        values = {spec.name: getattr(self, spec.name) for spec in fields(self)}
        values |= {"files": [asdict(file) for file in self.files], "drops": [drop.as_json() for drop in self.drops]}
        values["columns"] = COLUMNS
        values["notes"] = notes_as_json(self.notes)
        atomic.write_bytes(path, json.dumps(values, ensure_ascii=False).encode() + b"\n")

    @classmethod
    def read(cls, path: Path) -> "Sidecar | None":
        """The sidecar in `path`, or None if it is missing or unreadable (then its shard counts as unwritten)."""
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            if tuple(values.pop("columns")) != COLUMNS:
                return None
            values["drops"] = tuple(Drop(**drop) for drop in values["drops"])
            values["files"] = tuple(ReferencedFile(**file) for file in values["files"])
            values["notes"] = notes_from_json(values["notes"])
            return cls(**values)
        except (OSError, ValueError, TypeError, KeyError):
            return None


def finished_shard(
    folder: ShardDir, number: int, records: Sequence[Record], recipe: Recipe, *, rebuild: bool
) -> Sidecar | None:
    """The sidecar of shard `number` if the shard exists and is complete; None if it must be written.

    A shard from another recipe or from other records must be rewritten with `rebuild`, and raises `DataError`
    without: sets are never mixed silently. Image files with a newer modification time are read again, once.
    """
    path = folder.sidecar(number)
    sidecar = Sidecar.read(path)
    shard = folder.shard(number)
    if sidecar is None or not shard.is_file() or shard.stat().st_size != sidecar.bytes:
        return None
    settings = recipe.settings()
    changed = [name for name in settings if sidecar.recipe.get(name) != settings[name]]
    same_records = sidecar.fingerprint == records_fingerprint(records)[0]
    if same_records and not changed and _touched_since(records, path.stat().st_mtime_ns):
        same_records = _same_images(records, sidecar, recipe)
        if same_records:
            with suppress(PermissionError):  # of another user: they are read again next time
                os.utime(path)
    if rebuild and (changed or not same_records):
        return None
    if changed:
        was = ", ".join(f"{name} {sidecar.recipe.get(name)} -> {settings[name]}" for name in changed)
        raise DataError(f"{shard} was built with other settings ({was}); pass --rebuild to replace it")
    if not same_records:
        raise DataError(
            f"{shard} was built from other records: files of the source were added, removed or changed;"
            f" pass --rebuild to replace it"
        )
    return sidecar


def _touched_since(records: Sequence[Record], time_ns: int) -> bool:
    """Whether an image file was written, moved or replaced after `time_ns`: size and name may be the old ones."""
    for record in records:
        if isinstance(record, Sample) and isinstance(record.image, Path):
            with suppress(OSError, ValueError):  # missing then and now, or no name that a file can have
                if record.image.stat().st_ctime_ns >= time_ns:
                    return True
    return False


def _same_images(records: Sequence[Record], sidecar: Sidecar, recipe: Recipe) -> bool:
    """Whether records of the same texts still become the samples and drops in the sidecar."""
    drops, checksums = [], []
    for record in records:
        member = recipe.validate(record)
        if isinstance(member, Drop):
            drops.append(member.id)
        else:
            checksums.append(member.checksum)
    column = COLUMNS.index("checksum")
    return drops == [drop.id for drop in sidecar.drops] and checksums == [row[column] for row in sidecar.rows]


def records_fingerprint(records: Sequence[Record]) -> tuple[str, str]:
    """Identity of a run of records without reading an image: (text and size of each image file, text alone)."""
    whole, texts = hashlib.sha256(), hashlib.sha256()
    for record in records:
        line = _line(record)
        texts.update(line + b"\n")
        origin = "" if isinstance(record, Drop) else f" {_origin(record.image)}"
        whole.update(line + origin.encode() + b"\n")
    return whole.hexdigest(), texts.hexdigest()


def texts_fingerprint(records: Sequence[Record]) -> str:
    """The second of `records_fingerprint`, which needs no file system."""
    digest = hashlib.sha256()
    for record in records:
        digest.update(_line(record) + b"\n")
    return digest.hexdigest()


def _line(record: Record) -> bytes:
    text = f"drop {record.id} {record.reason}" if isinstance(record, Drop) else record.to_json()
    return text.encode(errors="surrogatepass")


def _origin(origin: ImageOrigin | None) -> int | str | None:
    """Bytes of an image file, -1 if it is missing; the range of one that is not copied; None if it is generated."""
    if isinstance(origin, FileRange):
        version = "" if isinstance(origin.file, Path) else origin.file.file.sha256
        return f"{origin.file}{version} {origin.offset} {origin.size}" if origin.in_place else origin.size
    if isinstance(origin, Path):
        try:
            return origin.stat().st_size
        except (OSError, ValueError):
            return -1
    if isinstance(origin, ParquetBytes):
        return f"{origin.version} {origin.leaf} {origin.row} {origin.item}"
    return len(origin) if isinstance(origin, bytes) else None
