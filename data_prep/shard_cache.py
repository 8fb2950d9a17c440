"""A cache of remote shards and tars on a local disk: fetched when they are read, least recently used deleted first.

    CACHE/imagenet-1f0c.../manifest.json, index.npy    fetched when the set is opened
                           000017.tar                  a shard, complete and checked; readers hold a shared lock on it
                           .000017.tar.part            a shard that is being fetched, with its final size
                           .000017.tar.lock            held by the process that fetches it
          tars/                                        tars made by others: see `data_prep.remote_tars`

Any number of processes may share a cache: a shard is fetched by one of them while the others wait, and none is
deleted while a process has it open. Locks (`data_prep.file_lock`) end with their process.
"""

import hashlib
import os
import re
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import BinaryIO

from configs.data import DataConfig
from configs.errors import DataError
from configs.section import NAME_PATTERN
from configs.shard_dir import ShardDir
from data_prep import atomic
from data_prep.file_lock import lock_file, locked, try_lock_file
from data_prep.remote import Remote, RemoteFile

VARIABLE = re.compile(r"\$(\w+)")  # ${NAME} is a reference to another setting
SHARD_NAME = re.compile(r"[0-9]{6,9}\.tar")
PATIENCE = 120.0  # seconds to wait until other processes are done with enough of the cache


@dataclass(frozen=True, slots=True)
class ShardCache:
    """A folder for copies of remote shards, which hold at most `limit` bytes; indexes come on top.

    Environment variables in `location` are those of the machine that uses it: a job's node-local scratch.
    """

    location: Path
    limit: int

    @classmethod
    def of(cls, data: DataConfig) -> "ShardCache":
        """The cache of a configuration."""
        return cls(Path(data.cache_dir).expanduser(), int(data.cache_gib * 2**30))

    @property
    def folder(self) -> Path:
        """The folder here. Raises `DataError` for an environment variable that is not set on this machine."""
        text = str(self.location)
        for name in VARIABLE.findall(text):
            if not os.environ.get(name):
                raise DataError(
                    f"data.cache_dir is {text}, and the environment variable {name} is not set on "
                    f"{socket.gethostname()}; set it, or --set data.cache_dir=FOLDER"
                )
        return Path(os.path.expandvars(text))

    def make_room(self, size: int) -> bool:
        """Delete the least recently used shards until `size` bytes more fit; False if too much is in use.

        Call it with the cache locked. Parts whose process has died are deleted like shards.
        """
        files: dict[Path, os.stat_result] = {}
        for pattern in ("*/.*.part", "*/*.tar"):  # parts first: one that is renamed meanwhile is then found as a shard
            for path in self.folder.glob(pattern):
                with suppress(FileNotFoundError):
                    files[path] = path.stat()
        used = sum(stat.st_size for stat in files.values())
        for path in sorted(files, key=lambda path: files[path].st_mtime_ns):
            if used + size <= self.limit:
                break
            if _remove_unless_open(path):
                used -= files[path].st_size
        return used + size <= self.limit

    def open(self, path: Path, wanted: RemoteFile, release: Callable[[], None]) -> FileIO:
        """The copy `path` of `wanted`, fetched if need be, open and locked against deletion until it is closed.

        `release` closes the copies that this reader has open, so that no process waits for room while it blocks others.
        """

        def fetch(file: BinaryIO) -> Path:
            wanted.fetch(file)
            return path

        while True:
            file = _opened(path)
            if file is not None:
                return file
            release()
            with locked(path.with_name(f".{path.name}.lock")):
                if not path.is_file():
                    self.fill(path.with_name(f".{path.name}.part"), wanted.url, wanted.bytes, fetch)

    def fill(self, part: Path, name: str, size: int, fetch: Callable[[BinaryIO], Path]) -> None:
        """Make room for `size` bytes in `part`, let `fetch` write them, and give the file the name it returns.

        Raises `DataError` naming `name` if there is no room, or writing fails; `part` is deleted on every failure.
        """
        try:
            with _created(part) as file:
                self._reserve(file.fileno(), name, size)
                path = fetch(file)
                file.flush()
                os.fsync(file.fileno())
                part.replace(path)
        except BaseException as error:
            part.unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise DataError(
                    f"{part} cannot be written ({error.strerror}); set data.cache_dir to a disk with room, or"
                    f" data.cache_gib lower"
                ) from error
            raise

    def _reserve(self, part: int, name: str, size: int) -> None:
        """Make room and reserve it, by giving the part its final size. Raises `DataError` after `PATIENCE` seconds."""
        until = time.monotonic() + PATIENCE
        while size <= self.limit:
            with locked(self.folder / ".lock"):
                if self.make_room(size):
                    os.ftruncate(part, size)
                    return
            if time.monotonic() > until:
                break
            time.sleep(0.2)
        raise DataError(
            f"no room for {name} ({size} bytes) in {self.folder}: it may hold {self.limit} bytes and all of it is in"
            f" use; raise data.cache_gib to a few shards for every process of this machine"
        )


@dataclass(frozen=True, slots=True)
class RemoteShards:
    """A remote shard set and the folder of its local copies."""

    remote: Remote
    folder: Path
    cache: ShardCache

    @classmethod
    def prepare(cls, url: str, source: str, manifest: bytes, index_sha256: str, cache: ShardCache) -> "RemoteShards":
        """Write the manifest, which was already fetched and read, and the index into the cache.

        The folder is named after the manifest's content: a set that was rebuilt gets another one.
        """
        if not NAME_PATTERN.fullmatch(source):
            raise DataError(f"the manifest of {url} names its source {source!r}; that cannot be a folder's name")
        folder = ShardDir(cache.folder / f"{source}-{hashlib.sha256(manifest).hexdigest()[:16]}")
        folder.root.mkdir(parents=True, exist_ok=True)
        remote = Remote(url)
        with locked(folder.root / ".open.lock"):
            if not folder.manifest.is_file():
                with atomic.atomic_file(folder.index) as file:
                    remote.fetch(folder.index.name, file, remote.size(folder.index.name), index_sha256)
                atomic.write_bytes(folder.manifest, manifest)
        return cls(remote, folder.root, cache)

    def open(self, name: str, size: int, sha256: str, release: Callable[[], None]) -> FileIO:
        """A shard; as `ShardCache.open`."""
        file = RemoteFile(f"{self.remote.url}/{name}", size, sha256)
        return self.cache.open(self.folder / name, file, release)


def check_names(url: str, names: tuple[str, ...]) -> None:
    """Raise `DataError` unless every shard's name has the form that a build writes: names become paths here."""
    for name in names:
        if not SHARD_NAME.fullmatch(name):
            raise DataError(f"the manifest of {url} names a shard {name!r}; a shard is called like 000017.tar")


def _opened(path: Path) -> FileIO | None:
    """A cached shard, locked as in use and marked as used just now; None if it is not there (any more)."""
    try:
        file = FileIO(path)
    except FileNotFoundError:
        return None
    lock_file(file.fileno(), shared=True)
    if os.fstat(file.fileno()).st_nlink == 0:  # deleted between opening and locking
        file.close()
        return None
    os.utime(file.fileno())
    return file


def _created(part: Path) -> BinaryIO:
    """An empty file, locked; made again if `make_room` deleted it before it was locked."""
    while True:
        file = part.open("w+b")
        lock_file(file.fileno())
        if os.fstat(file.fileno()).st_nlink:
            return file
        file.close()


def _remove_unless_open(path: Path) -> bool:
    """Delete a file that no process holds a lock on; True if this freed its bytes.

    By the time the file is locked its name may be gone or mean another file: a part became a shard, or was made again.
    """
    try:
        with FileIO(path) as file:
            if not try_lock_file(file.fileno()) or not os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return False
            path.unlink(missing_ok=True)
    except FileNotFoundError:
        return False
    return True
