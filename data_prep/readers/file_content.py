"""What a data file really is, by its first bytes: its name says little. Text is decoded; anything else is named.

Read: UTF-8 with or without a byte-order mark, UTF-16 and UTF-32 with one; each also packed with gzip.
Named, with the next step: archives, git-lfs pointers, web pages saved under a data file's name, Arrow, NumPy, pickles.
"""

import gzip
import io
import zlib
from pathlib import Path

from configs.errors import DataError

PARQUET = b"PAR1"
_GZIP = b"\x1f\x8b"
_ENCODINGS = (
    (b"\xff\xfe\0\0", "utf-32"),
    (b"\0\0\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
_FOREIGN = (
    (b"PK\x03\x04", "a zip archive (or an Excel file)", "unpack it and set path to the file inside"),
    (b"PK\x05\x06", "an empty zip archive", "download it again"),
    (b"BZh", "packed with bzip2", "unpack it with bunzip2"),
    (b"\xfd7zXZ", "packed with xz", "unpack it with unxz"),
    (b"\x28\xb5\x2f\xfd", "packed with Zstandard", "unpack it with unzstd"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it and set path to the file inside"),
    (b"Rar!", "a RAR archive", "unpack it and set path to the file inside"),
    (b"ARROW1", "an Arrow file", "save the data set as parquet (Dataset.to_parquet)"),
    (b"\xff\xff\xff\xff", "an Arrow stream, as `datasets` caches it", "save it as parquet (Dataset.to_parquet)"),
    (b"\x93NUMPY", "a NumPy array", "write its records as JSON"),
    (b"SQLite format 3", "an SQLite database", "export its table as CSV"),
    (b"\x89HDF", "an HDF5 file", "write its records as JSON"),
    (b"%PDF", "a PDF", "set path to the data file"),
    (b"\x80\x04\x95", "a Python pickle, which could run code when it is read", "write its records as JSON"),
    (b"\x80\x05\x95", "a Python pickle, which could run code when it is read", "write its records as JSON"),
    (
        b"version https://git-lfs.github.com/spec",
        "a git-lfs pointer, not the data",
        "run git lfs pull in its repository",
    ),
)
_ENTRY_NOT_FOUND = (b"Entry not found", b"404: Not Found", b"Not Found", b"Access denied", b"Repository not found")


def is_parquet(path: Path) -> bool:
    """Whether a file begins as a parquet file does."""
    with path.open("rb") as file:
        return file.read(4) == PARQUET


def check_file(path: Path) -> None:
    """Raise `DataError` if `path` is missing, or a folder, which is then named with the files in it."""
    if path.is_dir():
        inside = sorted(entry.name for entry in path.iterdir() if entry.is_file() and not entry.name.startswith("."))
        has = f"it has {', '.join(inside[:3])}{', ...' if len(inside) > 3 else ''}" if inside else "it has no file"
        raise DataError(f"no file {path}: it is a folder, and a file of records is needed; {has}")
    if not path.is_file():
        raise DataError(f"no file {path}")


def read_text(path: Path) -> str:
    """All of a text file, packed with gzip or not. Raises `DataError` that says what the file is, and what to do."""
    check_file(path)
    data = path.read_bytes()
    if data.startswith(_GZIP):
        try:
            data = gzip.decompress(data)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise DataError(f"{path} is damaged or no gzip file: {error}; is the download complete?") from error
    elif path.suffix == ".gz" and data:
        _refuse_foreign(path, data)
        raise DataError(
            f"{path} is damaged or no gzip file: it begins with {data[:8]!r}; if it is plain text, remove .gz"
        )
    _refuse_foreign(path, data)
    return _decoded(path, data)


def _refuse_foreign(path: Path, data: bytes) -> None:
    if not data.strip():
        raise DataError(f"{path} is empty ({len(data)} bytes); is the download complete?")
    if any(data.startswith(mark) for mark, _ in _ENCODINGS):
        return
    for signature, kind, step in _FOREIGN:
        if data.startswith(signature):
            raise DataError(f"{path} is {kind}; {step}")
    if data.startswith(PARQUET):
        raise DataError(f"{path} is a parquet file; the readers jsonl and llava read it")
    if data[257:262] == b"ustar":
        raise DataError(f"{path} is a tar archive; unpack it, or use the reader webdataset")
    start = data[:1000].removeprefix(b"\xef\xbb\xbf").lstrip()
    if start.lower().startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        page = data[:20_000].decode("utf-8", "replace")
        title = " ".join(page.partition("<title>")[2].partition("</title>")[0].split())[:80]
        raise DataError(
            f"{path} is a web page{f' ({title!r})' if title else ''}, not data: the download got an error or login"
            " page; fetch the file itself (on a hub: its 'resolve' address, logged in)"
        )
    if any(start.startswith(words) and len(data) < 200 for words in _ENTRY_NOT_FOUND):
        words = start.decode("utf-8", "replace").strip()
        raise DataError(
            f"{path} is a server's error message ({words!r}), not data; check the address and fetch it again"
        )


def _decoded(path: Path, data: bytes) -> str:
    encoding = next((name for mark, name in _ENCODINGS if data.startswith(mark)), "utf-8-sig")
    try:
        text = io.TextIOWrapper(io.BytesIO(data), encoding).read()
    except UnicodeError as error:
        if b"\0" in data[:200]:
            raise DataError(
                f"{path} is not UTF-8: it has zero bytes; is it UTF-16? Convert it: {_iconv(path)}"
            ) from error
        raise DataError(f"{path} is not UTF-8: {error}; convert it: {_iconv(path)}") from error
    if "\0" in text[:200]:
        raise DataError(f"{path} is not UTF-8: it has zero bytes; is it UTF-16? Convert it: {_iconv(path)}")
    return text


def _iconv(path: Path) -> str:
    return f"iconv -f ENCODING -t utf-8 {path.name} > {path.stem}.utf8{path.suffix}"
