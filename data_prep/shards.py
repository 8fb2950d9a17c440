"""The shard set of one source: its files, and reading them at random.

    FOLDER/000000.tar     webdataset-style members in pairs: 000000017.jpg (untouched bytes), 000000017.json
           000000.json    sidecar: what is known of that shard; written after it
           index.npy      where each sample's members lie
           manifest.json  counts, checksums, class histogram, drops; written last: a set without it is unfinished

An adopted set leaves images in the tars they came in: its shards hold the records, and its index points into `files`.

Shard i holds records [i * samples_per_shard, (i + 1) * samples_per_shard) of the reader's order, less those dropped.
A member's key is its record's number, zero-padded and without dots (webdataset ends the key at the first dot).

    shards = ShardSet.open(Path("shards/imagenet"))
    shards.sample(17).label_name

`data_prep.shard_writer` writes what this module reads; both take the layout from here.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.errors import DataError
from configs.run_dir import ShardDir
from configs.schema import DataConfig
from data_prep.checksum import crc32
from data_prep.open_files import OpenFiles
from data_prep.remote import Remote, as_url
from data_prep.sample import Drop, Sample
from data_prep.shard_cache import RemoteShards, ShardCache, check_names

FORMAT_VERSION = 1
IMAGE_EXTENSIONS = ("", "jpg", "png", "webp", "gif", "bmp", "tif")  # place 0: the sample has no image
OPEN_FILES = 64  # handles one reader keeps open
OPEN_REMOTE_FILES = 4  # the same for cached shards, which cannot make room while they are open
INDEX_DTYPE = np.dtype(
    [
        ("shard", "<u4"),
        ("extension", "u1"),  # place in IMAGE_EXTENSIONS
        ("label", "<i4"),  # -1: no label
        ("image_file", "<u4"),  # 0: the image is in the shard; n: in file n - 1 of the manifest's files
        ("image_offset", "<u8"),  # bytes from the start of the shard or file
        ("image_size", "<u4"),
        ("json_offset", "<u8"),
        ("json_size", "<u4"),
        ("width", "<u4"),  # pixels
        ("height", "<u4"),
        ("checksum", "<u4"),  # crc32 of the image's bytes followed by the json's
        ("id_hash", "<u8"),  # first 8 bytes of the id's sha256, little-endian
    ]
)


def id_hash(sample_id: str) -> int:
    """64 bits that stand for an id, the source's name included: `index["id_hash"]`."""
    return int.from_bytes(hashlib.sha256(sample_id.encode()).digest()[:8], "little")


@dataclass(frozen=True, slots=True)
class ShardEntry:
    """One tar of the set: its file name, samples, bytes, and sha256 (hexadecimal)."""

    name: str
    samples: int
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class AdoptedFile:
    """A file that holds images of an adopted set: its path and its bytes."""

    path: str
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a shard set holds. `histogram[i]` counts samples of class i; `records` = samples + drops."""

    format_version: int
    source: str
    reader: str
    options: Mapping[str, Any]
    samples_per_shard: int
    decode_check: bool
    class_names: tuple[str, ...]
    records: int
    samples: int
    bytes: int
    shards: tuple[ShardEntry, ...]
    files: tuple[AdoptedFile, ...]
    histogram: tuple[int, ...]
    drops: tuple[Drop, ...]
    index_sha256: str
    fingerprint: str

    def to_json(self) -> str:
        """The text of manifest.json."""
        values = {spec.name: getattr(self, spec.name) for spec in fields(self)}
        for name in ("shards", "files", "drops"):
            values[name] = [asdict(entry) for entry in values[name]]
        return json.dumps(values, ensure_ascii=False, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Manifest":
        """Inverse of `to_json`. Raises `KeyError`, `TypeError` or `ValueError` on anything else."""
        values = json.loads(text)
        values["shards"] = tuple(ShardEntry(**entry) for entry in values["shards"])
        values["files"] = tuple(AdoptedFile(**file) for file in values["files"])
        values["drops"] = tuple(Drop(**drop) for drop in values["drops"])
        for name in ("class_names", "histogram"):
            values[name] = tuple(values[name])
        return cls(**values)


def fingerprint_of(entries: tuple[ShardEntry, ...], adopted_index: str | None) -> str:
    """The identity of the data: it changes with any byte of any sample and with nothing else.

    Of an adopted set the index's sha256 is part of it, since checksums of images stand there only.
    """
    text = json.dumps([FORMAT_VERSION, [[entry.samples, entry.sha256] for entry in entries], adopted_index])
    return hashlib.sha256(text.encode()).hexdigest()


def read_manifest(folder: Path) -> Manifest:
    """The manifest of the shard set in `folder` or behind a URL. Raises `DataError` if there is none we can read."""
    url = as_url(folder)
    if url is not None:
        return _parse_manifest(f"{url}/manifest.json", Remote(url).read("manifest.json"))
    path = ShardDir(folder).manifest
    if not path.is_file():
        state = "is unfinished: it has no manifest" if any(folder.glob("*.tar")) else "does not exist"
        raise DataError(f"the shard set {folder} {state}; build it with `python -m data_prep.build --config FILE`")
    return _parse_manifest(str(path), path.read_bytes())


def _parse_manifest(name: str, data: bytes) -> Manifest:
    try:
        text = data.decode()
        version = json.loads(text).get("format_version")
        if version != FORMAT_VERSION:
            raise DataError(f"{name} has format version {version}; this program reads {FORMAT_VERSION}: build it anew")
        return Manifest.from_json(text)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{name} is damaged ({error}); delete it and run data_prep.build again") from error


def wrong_sizes(folder: Path, manifest: Manifest) -> list[str]:
    """One text for each shard or adopted file that is missing or has not the size in the manifest."""
    files = [(folder / entry.name, entry.bytes) for entry in manifest.shards]
    files += [(Path(file.path), file.bytes) for file in manifest.files]
    wrong = []
    for path, size in files:
        found = path.stat().st_size if path.is_file() else None
        if found != size:
            state = "is missing" if found is None else f"has {found} bytes"
            wrong.append(f"{path} {state}; the manifest says {size} bytes")
    return wrong


class ShardSet:
    """Random access to the samples of a finished shard set; may be pickled and shared with worker processes."""

    def __init__(self, folder: Path, manifest: Manifest, remote: RemoteShards | None = None) -> None:
        self.folder = folder
        self.manifest = manifest
        self.remote = remote
        self.index = _open_index(folder, manifest)
        self._files = OpenFiles(self._open_file, OPEN_REMOTE_FILES if remote else OPEN_FILES)

    @classmethod
    def open(cls, folder: Path | str, cache: ShardCache | None = None) -> "ShardSet":
        """The set in `folder`, or behind a URL: then shards are fetched into `cache` when they are read.

        Raises `DataError` if it is missing or unfinished, or a shard's size has changed.
        """
        url = as_url(folder)
        if url is not None:
            return _open_remote(url, cache or ShardCache.of(DataConfig()))
        folder = Path(folder)
        manifest = read_manifest(folder)
        wrong = wrong_sizes(folder, manifest)
        if wrong:
            raise DataError(f"{wrong[0]}; run data_prep.build again to rebuild it")
        return cls(folder, manifest)

    def __len__(self) -> int:
        return len(self.index)

    def __getstate__(self) -> tuple[Path, Manifest, RemoteShards | None]:
        return (self.folder, self.manifest, self.remote)

    def __setstate__(self, state: tuple[Path, Manifest, RemoteShards | None]) -> None:
        self.__init__(*state)  # type: ignore[misc]  # opens index and files anew in this process

    @property
    def labels(self) -> NDArray[np.int64]:
        """The class index of every sample, -1 where there is none; shape [len(self)]."""
        return self.index["label"].astype(np.int64)

    @property
    def fingerprint(self) -> str:
        """Hexadecimal identity of the samples' bytes and order."""
        return self.manifest.fingerprint

    def sample(self, number: int) -> Sample:
        """Sample `number`, its image as the bytes of the original file (or None).

        Raises `IndexError` outside 0 <= number < len(self), and `DataError` naming shard and sample if the bytes
        are not those that were written.
        """
        if not 0 <= number < len(self):
            raise IndexError(f"sample {number} of {self.folder}, which has {len(self)}")
        image, text = self._read(number)
        try:
            return Sample.from_json(text, image)
        except (ValueError, TypeError) as error:
            raise DataError(f"{self.where(number)} is not a sample record: {error}") from error

    def record(self, number: int) -> Sample:
        """Sample `number` without its image, which is not read (so its bytes are not checked). Raises as `sample`."""
        row = self.index[number]
        try:
            return Sample.from_json(
                self._files.pread(int(row["shard"]), int(row["json_size"]), int(row["json_offset"]))
            )
        except (ValueError, TypeError) as error:
            raise DataError(f"{self.where(number)} is not a sample record: {error}") from error

    def where(self, number: int) -> str:
        """Words for an error message: which sample, in which shard, at which byte."""
        row = self.index[number]
        name = self.manifest.shards[int(row["shard"])].name
        return f"sample {number} of {self.folder} (shard {name}, byte {int(row['json_offset'])})"

    def _read(self, number: int) -> tuple[bytes | None, bytes]:
        """(image, json) of a sample, checked."""
        shard, extension, _, file, *places, _, _, checksum, _ = self.index[number].item()  # in the order of INDEX_DTYPE
        image_offset, image_size, json_offset, json_size = places
        image = None
        if extension:
            image = self._files.pread(-file if file else shard, image_size, image_offset)
        text = self._files.pread(shard, json_size, json_offset)
        if crc32(text, crc32(image or b"")) != checksum:
            again = "open the set again to fetch it anew" if self.remote else "run data_prep.build again"
            raise DataError(
                f"{self.where(number)} is damaged: its bytes have not the checksum in the index; delete that shard and"
                f" {again}"
            )
        return image, text

    def _open_file(self, number: int) -> FileIO:
        """Shard `number`, or file -number of an adopted set (counted from 1)."""
        if self.remote is not None:
            entry = self.manifest.shards[number]
            return self.remote.open(entry.name, entry.bytes, entry.sha256, release=self._files.close)
        adopted = Path(self.manifest.files[-number - 1].path) if number < 0 else None
        path = adopted or self.folder / self.manifest.shards[number].name
        try:
            return FileIO(path)
        except OSError as error:
            raise DataError(
                f"{path} cannot be opened ({error.strerror}); run data_prep.verify {self.folder}"
            ) from error


def _open_remote(url: str, cache: ShardCache) -> ShardSet:
    text = Remote(url).read("manifest.json")
    manifest = _parse_manifest(f"{url}/manifest.json", text)
    check_names(url, tuple(entry.name for entry in manifest.shards))
    if manifest.files:
        raise DataError(
            f"{url} adopts images where they lie, first {manifest.files[0].path}; to read a set from elsewhere, build"
            f" it with the option copy: true"
        )
    remote = RemoteShards.prepare(url, manifest.source, text, manifest.index_sha256, cache)
    return ShardSet(remote.folder, manifest, remote)


def _open_index(folder: Path, manifest: Manifest) -> NDArray[Any]:
    """index.npy, mapped into memory so that all processes of a machine share it."""
    path = ShardDir(folder).index
    remedy = "run data_prep.build again"
    try:
        index = np.load(path, mmap_mode="r" if manifest.samples else None, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}); {remedy}") from error
    if index.dtype != INDEX_DTYPE or index.shape != (manifest.samples,):
        raise DataError(f"{path} has shape {index.shape}; the manifest counts {manifest.samples} samples; {remedy}")
    return np.asarray(index)  # without memmap's own, slower indexing
