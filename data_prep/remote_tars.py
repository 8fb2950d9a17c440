"""Tars behind URLs: indexed in one pass, then read through the cache, without building copies of their images.

    CACHE/tars/4be1....json    the index of one version of a tar (URL, bytes, ETag): never deleted
               9f02....tar     its bytes, named by their sha256: deleted when the cache needs room

A pass over a tar continues after a lost connection; a build that was killed continues with the tars that have no index.
Machines that share the cache's folder share that work.
"""

import hashlib
import json
import os
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import BinaryIO

from configs.errors import DataError
from data_prep import atomic
from data_prep.file_lock import locked
from data_prep.progress import Progress
from data_prep.remote import Remote, RemoteFile
from data_prep.shard_cache import ShardCache
from data_prep.tar_index import Entry, Field, index_tar

FOLDER = "tars"
AT_ONCE = 4  # tars that are fetched at the same time
MAX_PRINTED_TARS = 5  # damaged tars that one message names
INDEX_VERSION = 1


def _nothing() -> None:
    pass


@dataclass(frozen=True, slots=True)
class RemoteTar:
    """A tar behind a URL, as it was when it was indexed."""

    file: RemoteFile
    cache: ShardCache

    def __str__(self) -> str:
        return self.file.url

    @property
    def fetched(self) -> bool:
        """Whether its copy is in the cache now."""
        return _copy(self.cache, self.file.sha256).is_file()

    def open(self, release: Callable[[], None] = _nothing) -> FileIO:
        """Its copy in the cache; as `ShardCache.open`. Raises `DataError` if it is not the indexed file any more."""
        path = _copy(self.cache, self.file.sha256)
        path.parent.mkdir(parents=True, exist_ok=True)
        return self.cache.open(path, self.file, release)


@dataclass(frozen=True, slots=True)
class IndexedTar:
    """A remote tar and its samples."""

    tar: RemoteTar
    entries: list[Entry]


def index_remote_tars(urls: Sequence[str], cache: ShardCache) -> list[IndexedTar]:
    """The index of every tar, in order; those not indexed before are fetched, several at once.

    Raises `DataError` that names the tars which are damaged or could not be fetched, after all others are indexed.
    """
    (cache.folder / FOLDER).mkdir(parents=True, exist_ok=True)
    found: dict[str, IndexedTar] = {}
    faults: list[str] = []
    first = int(hashlib.sha256(f"{socket.gethostname()} {os.getpid()}".encode()).hexdigest(), 16) % max(len(urls), 1)
    rotated = [*urls[first:], *urls[:first]]  # machines that share the work begin at different tars

    def index(url: str) -> IndexedTar | str:
        try:
            return _index(url, cache)
        except DataError as error:
            return str(error)

    with Progress("index", len(urls), "tars") as progress, ThreadPoolExecutor(AT_ONCE) as pool:
        for url, answer in zip(rotated, pool.map(index, rotated), strict=True):
            if isinstance(answer, str):
                faults.append(answer)
            else:
                found[url] = answer
            progress.add(1, isinstance(answer, str))
    if faults:
        more = f"; and {len(faults) - MAX_PRINTED_TARS} more" if len(faults) > MAX_PRINTED_TARS else ""
        raise DataError(
            f"{len(faults)} of {len(urls)} tars cannot be read: {'; '.join(faults[:MAX_PRINTED_TARS])}{more}"
        )
    return [found[url] for url in urls]


def _index(url: str, cache: ShardCache) -> IndexedTar:
    folder, _, name = url.rpartition("/")
    size, version = Remote(folder).version(name)
    key = hashlib.sha256(f"{url} {size} {version}".encode()).hexdigest()[:32]
    path = cache.folder / FOLDER / f"{key}.json"
    with locked(path.with_name(f".{key}.lock")):
        indexed = _read(path, cache)
        if indexed is None:
            indexed = _fetch_and_index(url, size, cache, path.with_name(f".{key}.part"))
            _write(path, indexed)
    return indexed


def _fetch_and_index(url: str, size: int, cache: ShardCache, part: Path) -> IndexedTar:
    """Fetch a tar into the cache and index it. A damaged one is fetched once more: the transfer may be the cause."""
    folder, _, name = url.rpartition("/")
    seen: list[IndexedTar] = []

    def fetch(file: BinaryIO) -> Path:
        hashes: list[str] = []
        while True:
            hashes.append(Remote(folder).fetch_once(name, file, size))
            file.flush()
            try:
                entries = index_tar(part, url, keep_text=True)
            except DataError:
                if len(hashes) == 2:
                    raise
                continue
            seen.append(IndexedTar(RemoteTar(RemoteFile(url, size, hashes[-1]), cache), entries))
            return _copy(cache, hashes[-1])

    cache.fill(part, url, size, fetch)
    return seen[0]


def _copy(cache: ShardCache, sha256: str) -> Path:
    return cache.folder / FOLDER / f"{sha256[:32]}.tar"


def _write(path: Path, indexed: IndexedTar) -> None:
    file = indexed.tar.file
    values = {"format_version": INDEX_VERSION, "url": file.url, "bytes": file.bytes, "sha256": file.sha256}
    atomic.write_bytes(path, json.dumps(values | {"entries": indexed.entries}, ensure_ascii=False).encode())


def _read(path: Path, cache: ShardCache) -> IndexedTar | None:
    """The stored index in `path`, or None if there is none that can be read."""
    try:
        values = json.loads(path.read_bytes())
        if values["format_version"] != INDEX_VERSION:
            return None
        file = RemoteFile(values["url"], values["bytes"], values["sha256"])
        entries: list[Entry] = [
            (key, fields if isinstance(fields, str) else {name: Field(*field) for name, field in fields.items()})
            for key, fields in values["entries"]
        ]
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return IndexedTar(RemoteTar(file, cache), entries)
