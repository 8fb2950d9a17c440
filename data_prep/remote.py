"""Files behind a URL, through fsspec: fetched in chunks, resumed after a lost connection, checked by their sha256.

`configs.locations` says which URLs are opened.
"""

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeVar

from configs.errors import DataError

PIECE = 8 << 20  # bytes of one request
ATTEMPTS = 6  # failures in a row before a fetch is given up
VERSIONS = ("ETag", "etag", "md5Hash", "Content-MD5", "Last-Modified", "LastModified", "updated", "mtime")
FIRST_PAUSE = 0.5  # seconds before the second attempt; doubled each time

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Remote:
    """A folder behind a URL. Holds no connection, so it may be pickled and forked."""

    url: str

    def read(self, name: str) -> bytes:
        """A whole small file. Raises `DataError` if it does not exist or could not be fetched."""
        files = _filesystem(self.url)
        data: bytes = self._retry(name, lambda: files.cat_file(f"{self.url}/{name}"))
        return data

    def size(self, name: str) -> int:
        """Bytes of a file. Raises `DataError` as `read` does."""
        return self.version(name)[0]

    def version(self, name: str) -> tuple[int, str]:
        """(size in bytes, ETag and dates that identify the version). Raises `DataError` as `read` does."""
        files = _filesystem(self.url)
        info = self._retry(name, lambda: files.info(f"{self.url}/{name}"))
        if not isinstance(info.get("size"), int):
            raise DataError(f"{self.url}/{name}: the server does not report its size; download the file by other means")
        return info["size"], " ".join(str(info[key]) for key in VERSIONS if info.get(key))

    def fetch(self, name: str, file: BinaryIO, size: int, sha256: str) -> None:
        """Write `size` bytes of a file into `file`, from its start.

        After a lost connection only the rest is requested. If the sha256 is wrong, the file is fetched once more.
        Raises `DataError` if the second sha256 is wrong as well.
        """
        for _ in range(2):
            found = self.fetch_once(name, file, size)
            if found == sha256:
                return
        raise DataError(
            f"{self.url}/{name} was fetched twice and has the sha256 {found}; the manifest says {sha256}: it was"
            f" damaged or replaced; upload the right file again, or rebuild the set"
        )

    def fetch_once(self, name: str, file: BinaryIO, size: int) -> str:
        """Write `size` bytes of a file into `file` as `fetch` does, and return their sha256."""
        files, digest, done = _filesystem(self.url), hashlib.sha256(), 0
        file.seek(0)

        def piece() -> bytes:
            end = min(done + PIECE, size)
            data: bytes = files.cat_file(f"{self.url}/{name}", start=done, end=end)
            if len(data) == size:  # a server that does not support ranges sends everything
                return data[done:]
            if not 0 < len(data) <= end - done:
                raise OSError(f"{len(data)} bytes received for bytes {done} to {end}")
            return data

        while done < size:
            data = self._retry(name, piece)
            file.write(data)
            digest.update(data)
            done += len(data)
        return digest.hexdigest()

    def _retry(self, name: str, request: Callable[[], Result]) -> Result:
        """The result of `request`, which is repeated after failures, with growing pauses."""
        for attempt in range(ATTEMPTS):
            try:
                return request()
            except FileNotFoundError as error:
                raise DataError(
                    f"there is no {self.url}/{name}; is the address right, and the upload complete?"
                ) from error
            except Exception as error:  # every kind of store raises its own
                if attempt == ATTEMPTS - 1:
                    raise DataError(
                        f"{self.url}/{name} could not be fetched: {type(error).__name__} {error} ({ATTEMPTS} attempts)"
                    ) from error
                time.sleep(FIRST_PAUSE * 2**attempt)
        raise AssertionError("the last attempt returns or raises")


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file behind a URL, its size in bytes and its sha256."""

    url: str
    bytes: int
    sha256: str

    def fetch(self, file: BinaryIO) -> None:
        """Write it into `file`; as `Remote.fetch`."""
        folder, _, name = self.url.rpartition("/")
        Remote(folder).fetch(name, file, self.bytes, self.sha256)


def _filesystem(url: str) -> Any:
    """fsspec's client for a URL, a new one for each use: a client must not be shared with forked processes."""
    import fsspec  # not needed where shards lie on a disk

    scheme = url.partition(":")[0]
    try:
        return fsspec.filesystem(scheme, skip_instance_cache=True)
    except ImportError as error:
        raise DataError(f"{scheme} URLs need a package: pip install 'vlm-classify[remote]' ({error})") from error
