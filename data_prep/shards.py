"""The shard set of one source: its files, and random access to its samples.

    FOLDER/000000.tar     webdataset-style members in pairs: 000000017.jpg (untouched bytes), 000000017.json
           000000.json    sidecar: recipe, checksum and index rows of that shard; written after it
           index.npy      byte offsets of each sample's members
           image_xxh3.npy `image_hash` of each sample's image, for `data_prep.train_test_check`
           manifest.json  counts, checksums, class histogram, drops; written last: a set without it is unfinished

A set built with `copy: false` references its images: they stay in their original tars, on a disk or behind URLs; the
shards hold the records, and the index points into the manifest's `files`.

Shard i holds records [i * samples_per_shard, (i + 1) * samples_per_shard) of the reader's order, less those dropped.
A member's key is its record's number, zero-padded and without dots (webdataset ends the key at the first dot).

    shards = ShardSet.open(Path("shards/imagenet"))
    shards.sample(17).label_name

`data_prep.shard_writer` writes what this module reads; both take the layout from `data_prep.manifest` and
`data_prep.shard_index`.
"""

from io import FileIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from configs.data import APPLY, DataConfig
from configs.errors import DataError
from configs.locations import as_url
from configs.shard_dir import ShardDir
from data_prep.checksum import crc32
from data_prep.manifest import Manifest, parse_manifest, read_manifest
from data_prep.open_files import OpenFiles
from data_prep.orientation import UprightImage
from data_prep.remote import Remote, RemoteFile
from data_prep.remote_tars import RemoteTar
from data_prep.sample import Sample
from data_prep.shard_cache import RemoteShards, ShardCache, check_names
from data_prep.shard_index import open_index

OPEN_FILES = 64  # handles one reader keeps open
OPEN_REMOTE_FILES = 4  # the same for cached shards, which cannot make room while they are open


def wrong_sizes(folder: Path, manifest: Manifest) -> list[str]:
    """One message for each shard or referenced file that is missing or differs in size from the manifest.

    Files behind URLs are left out: they are checked when they are fetched.
    """
    files = [(folder / entry.name, entry.bytes) for entry in manifest.shards]
    files += [(Path(file.path), file.bytes) for file in manifest.files if as_url(file.path) is None]
    wrong = []
    for path, size in files:
        found = path.stat().st_size if path.is_file() else None
        if found != size:
            state = "is missing" if found is None else f"has {found} bytes"
            wrong.append(f"{path} {state}; the manifest says {size} bytes")
    return wrong


class ShardSet:
    """Random access to the samples of a finished shard set; may be pickled and shared with worker processes."""

    def __init__(
        self, folder: Path, manifest: Manifest, remote: RemoteShards | None = None, cache: ShardCache | None = None
    ) -> None:
        self.folder = folder
        self.manifest = manifest
        self.remote = remote
        self.cache = cache or ShardCache.of(DataConfig())
        self.index = open_index(folder, manifest.samples)
        some_remote = remote is not None or any(as_url(file.path) for file in manifest.files)
        self._files = OpenFiles(self._open_file, OPEN_REMOTE_FILES if some_remote else OPEN_FILES)

    @classmethod
    def open(cls, folder: Path | str, cache: ShardCache | None = None) -> "ShardSet":
        """The set in `folder`, or behind a URL; what lies behind URLs is fetched into `cache` when it is read.

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
        return cls(folder, manifest, cache=cache)

    def __len__(self) -> int:
        return len(self.index)

    def __getstate__(self) -> tuple[Path, Manifest, RemoteShards | None, ShardCache]:
        return (self.folder, self.manifest, self.remote, self.cache)

    def __setstate__(self, state: tuple[Path, Manifest, RemoteShards | None, ShardCache]) -> None:
        self.__init__(*state)  # type: ignore[misc]  # opens index and files in this process

    @property
    def labels(self) -> NDArray[np.int64]:
        """The class index of every sample, -1 where there is none; shape [len(self)]."""
        return self.index["label"].astype(np.int64)

    def numbers_by_hash(self) -> dict[int, int]:
        """The hash of each sample's id (`data_prep.shard_index.id_hash`) to the sample's number."""
        return {hashed: number for number, hashed in enumerate(self.index["id_hash"].tolist())}

    def image_hashes(self) -> NDArray[np.uint64] | None:
        """`image_hash` of every sample's image, 0 where there is none, shape [len(self)].

        None for a set behind a URL, and without a whole file.
        """
        path = ShardDir(self.folder).image_hashes
        if self.remote is not None or not path.is_file():
            return None
        try:
            found = np.load(path, allow_pickle=False)
        except (OSError, ValueError):
            return None
        return found if found.shape == (len(self),) and found.dtype == np.uint64 else None

    @property
    def fingerprint(self) -> str:
        """Hexadecimal identity of the samples' bytes and order."""
        return self.manifest.fingerprint

    @property
    def remote_bytes(self) -> int:
        """Bytes of all files that are read through the cache."""
        referenced = sum(file.bytes for file in self.manifest.files if as_url(file.path))
        return referenced + (self.manifest.bytes if self.remote else 0)

    def sample(self, number: int) -> Sample:
        """Sample `number`, with the original bytes of its image (or None).

        Raises `IndexError` outside 0 <= number < len(self), and `DataError` naming shard and sample if the bytes
        are not those that were written.
        """
        if not 0 <= number < len(self):
            raise IndexError(f"sample {number} of {self.folder}, which has {len(self)}")
        image, text = self._read(number)
        if image is not None and self.manifest.exif == APPLY:
            image = UprightImage(image)
        try:
            return Sample.from_json(text, image)
        except (ValueError, TypeError) as error:
            raise DataError(f"{self.where(number)} is not a sample record: {error}") from error

    def record(self, number: int) -> Sample:
        """Sample `number` without its image, which is not read (so its bytes are not checked). Raises as `sample`."""
        row = self.index[number]
        text = self._files.pread(int(row["shard"]), int(row["json_size"]), int(row["json_offset"]))
        try:
            return Sample.from_json(text)
        except (ValueError, TypeError) as error:
            raise DataError(f"{self.where(number)} is not a sample record: {error}") from error

    def fetched(self, number: int) -> bool:
        """Whether all files of sample `number` are on this machine, so that reading it fetches nothing."""
        row = self.index[number]
        if self.remote is not None and not (self.folder / self.manifest.shards[int(row["shard"])].name).is_file():
            return False
        if not row["image_file"]:
            return True
        file = self.manifest.files[int(row["image_file"]) - 1]
        url = as_url(file.path)
        return url is None or RemoteTar(RemoteFile(url, file.bytes, file.sha256), self.cache).fetched

    def where(self, number: int) -> str:
        """For error messages: which sample, in which shard, at which byte."""
        row = self.index[number]
        name = self.manifest.shards[int(row["shard"])].name
        return f"sample {number} of {self.folder} (shard {name}, byte {int(row['json_offset'])})"

    def _read(self, number: int) -> tuple[bytes | None, bytes]:
        """(image, json) of a sample, checked."""
        shard, extension, _, file, *offsets, _, _, checksum, _ = self.index[number].item()  # order of INDEX_DTYPE
        image_offset, image_size, json_offset, json_size = offsets
        image = None
        if extension:
            image = self._files.pread(-file if file else shard, image_size, image_offset)
        text = self._files.pread(shard, json_size, json_offset)
        if crc32(text, crc32(image or b"")) != checksum:
            raise DataError(
                f"{self.where(number)} is damaged: the checksum of its bytes differs from the index;"
                f" {self._remedy(file)}"
            )
        return image, text

    def _remedy(self, file: int) -> str:
        """What to do about a damaged sample whose image is in referenced file `file`, or (0) in its shard."""
        again = "open the set again to fetch it" if self.remote else "run data_prep.build again"
        if not file:
            return f"delete that shard and {again}"
        path = self.manifest.files[file - 1].path
        return f"its image lies in {path}; if that has changed, run data_prep.build --rebuild"

    def _open_file(self, number: int) -> FileIO:
        """Shard `number`, or referenced file -number (counted from 1)."""
        if number < 0:
            file = self.manifest.files[-number - 1]
            url = as_url(file.path)
            if url is not None:
                return RemoteTar(RemoteFile(url, file.bytes, file.sha256), self.cache).open(self._files.close)
            path = Path(file.path)
        else:
            entry = self.manifest.shards[number]
            if self.remote is not None:
                return self.remote.open(entry.name, entry.bytes, entry.sha256, release=self._files.close)
            path = self.folder / entry.name
        try:
            return FileIO(path)
        except OSError as error:
            raise DataError(
                f"{path} cannot be opened ({error.strerror}); run data_prep.verify {self.folder}"
            ) from error


def _open_remote(url: str, cache: ShardCache) -> ShardSet:
    name = ShardDir(Path(url)).manifest.name
    text = Remote(url).read(name)
    manifest = parse_manifest(f"{url}/{name}", text)
    check_names(url, tuple(entry.name for entry in manifest.shards))
    for file in manifest.files:
        file_url = as_url(file.path)
        if file_url is None or file_url.startswith("file:"):
            raise DataError(
                f"{url} references images in another file, {file.path}; to read a set from another machine, build"
                f" it with the option copy: true, or from tars behind URLs"
            )
    remote = RemoteShards.prepare(url, manifest.source, text, manifest.index_sha256, cache)
    return ShardSet(remote.folder, manifest, remote, cache)
