"""The manifest of a shard set: its content and its fingerprint; written last, read first."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from configs.data import IGNORE
from configs.errors import BUILD_SHARDS, DataError
from configs.locations import as_url
from configs.shard_dir import ShardDir
from data_prep.image_notes import Notes, notes_as_json, notes_from_json
from data_prep.remote import Remote
from data_prep.sample import Drop

FORMAT_VERSION = 1
MOST_IGNORED = 1000


@dataclass(frozen=True, slots=True)
class ShardEntry:
    """One tar of the set: its file name, samples, bytes, and sha256 (hexadecimal)."""

    name: str
    samples: int
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class ReferencedFile:
    """A file that holds images outside the shards: path or URL, bytes, and the sha256 of a remote one."""

    path: str
    bytes: int
    sha256: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The content of a shard set. `histogram[i]` counts samples of class i; `records` = samples + drops.

    `path` is what the config named when the set was built: another path is other data until a build has compared it.
    `exif` is `data.exif`. `notes` count samples that are kept but not shown as stored (`data_prep.image_notes`).
    `ignored` names files that are no records (see `Source`), the first `MOST_IGNORED` of them.
    """

    format_version: int
    source: str
    reader: str
    path: str | None
    options: Mapping[str, Any]
    samples_per_shard: int
    decode_check: bool
    class_names: tuple[str, ...]
    records: int
    samples: int
    bytes: int
    shards: tuple[ShardEntry, ...]
    files: tuple[ReferencedFile, ...]
    histogram: tuple[int, ...]
    drops: tuple[Drop, ...]
    index_sha256: str
    fingerprint: str
    ignored: tuple[str, ...]
    exif: str
    notes: Notes

    def to_json(self) -> str:
        """The text of manifest.json."""
        values = {spec.name: getattr(self, spec.name) for spec in fields(self)}
        for name in ("shards", "files"):
            values[name] = [asdict(entry) for entry in values[name]]
        values["drops"] = [drop.as_json() for drop in self.drops]
        values["notes"] = notes_as_json(self.notes)
        return json.dumps(values, ensure_ascii=False, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Manifest":
        """Inverse of `to_json`. Raises `KeyError`, `TypeError` or `ValueError` on anything else."""
        values = json.loads(text)
        values["shards"] = tuple(ShardEntry(**entry) for entry in values["shards"])
        values["files"] = tuple(ReferencedFile(**file) for file in values["files"])
        values["drops"] = tuple(Drop(**drop) for drop in values["drops"])
        for name in ("class_names", "histogram", "ignored"):
            values[name] = tuple(values[name])
        values["notes"] = notes_from_json(values["notes"])
        return cls(**values)


def fingerprint_of(entries: tuple[ShardEntry, ...], referenced_index: str | None, exif: str = IGNORE) -> str:
    """The identity of the data: it changes with any byte of any sample and with nothing else.

    If images are referenced, the index's sha256 is part of it, since only the index has checksums of the images; and
    `exif`, if the images are turned.
    """
    turned = [] if exif == IGNORE else [exif]
    shards = [[entry.samples, entry.sha256] for entry in entries]
    text = json.dumps([FORMAT_VERSION, shards, referenced_index, *turned])
    return hashlib.sha256(text.encode()).hexdigest()


def read_manifest(folder: Path) -> Manifest:
    """The manifest of the shard set in `folder` or behind a URL. Raises `DataError` if there is none we can read."""
    url = as_url(folder)
    if url is not None:
        name = ShardDir(folder).manifest.name
        return parse_manifest(f"{url}/{name}", Remote(url).read(name))
    path = ShardDir(folder).manifest
    if not path.is_file():
        if inside := ShardDir(folder).sets_inside():
            sets = " or ".join(map(str, inside[:5]))
            raise DataError(f"{folder} is no shard set, but a folder of {len(inside)}: give {sets}")
        state = "is unfinished: it has no manifest" if ShardDir(folder).shards() else "does not exist"
        raise DataError(f"the shard set {folder} {state}; build it with `{BUILD_SHARDS}`")
    return parse_manifest(str(path), path.read_bytes())


def parse_manifest(name: str, data: bytes) -> Manifest:
    """The manifest in `data`, the bytes of the file `name`. Raises `DataError` if we cannot read it."""
    try:
        text = data.decode()
        found = json.loads(text)
        version = found.get("format_version")
        if version != FORMAT_VERSION:
            raise DataError(f"{name} has format version {version}; this program reads {FORMAT_VERSION}: rebuild it")
        known = [spec.name for spec in fields(Manifest)]
        differs = [f"lacks {key!r}" for key in known if key not in found]
        differs += [f"has {key!r}, which is unknown" for key in found if key not in known]
        if differs:
            raise DataError(
                f"{name} {' and '.join(differs[:3])}: another version of this program wrote these shards, or the file "
                f"was edited; build them again with `{BUILD_SHARDS} --rebuild`"
            )
        return Manifest.from_json(text)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{name} is damaged ({error}); delete it and run data_prep.build again") from error
