"""Files and folders that are either complete or absent: temporary name, fsync, rename.

A reader never sees a partially written file, and after a power failure the file has its old content or its new one.
"""

import json
import os
import shutil
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

TEMPORARY_SUFFIX = ".tmp"
STALE_SECONDS = 86_400.0  # without a write; after that a writer on another machine is considered dead


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A file open for writing that takes the name `path` only when the block ends without an exception.

    The temporary name holds machine and process, so two writers of the same file never share one.
    """
    temporary = _temporary(path)
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` atomically."""
    with atomic_file(path) as file:
        file.write(data)


def write_json(path: Path, values: object) -> None:
    """Write `values` to `path` atomically, as indented JSON in UTF-8."""
    write_bytes(path, (json.dumps(values, indent=1, ensure_ascii=False) + "\n").encode())


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A new folder to write to, which takes the name `path` and replaces an older one when the block ends well.

    Its files may be read by whoever the umask lets read files: safetensors writes for the owner alone.
    Temporary folders that killed writers of the same folder left are removed first.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path.parent, path.name)
    temporary = _temporary(path)
    temporary.mkdir()
    try:
        yield temporary
        _open_to_umask(temporary)
        shutil.rmtree(path, ignore_errors=True)
        temporary.rename(path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_folder(path.parent)


def _open_to_umask(folder: Path) -> None:
    """Add the permissions to the files in `folder` that a file made by `open` would have, as its folders show them."""
    for parent, _, names in os.walk(folder):
        readable = Path(parent).stat().st_mode & 0o666
        for name in names:
            file = Path(parent, name)
            if not file.is_symlink():
                file.chmod(stat.S_IMODE(file.stat().st_mode) | readable)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}{TEMPORARY_SUFFIX}")


def remove_leftovers(folder: Path, name: str = "*") -> None:
    """Delete temporary files of `name`, a pattern, in `folder` whose writers were killed."""
    for leftover in folder.glob(f".{name}.*{TEMPORARY_SUFFIX}"):
        if not _is_left_over(leftover):
            continue
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def _is_left_over(temporary: Path) -> bool:
    """Whether its writer is dead: by its process id on this machine, by the file's age on another."""
    writer, _, process = temporary.name.removesuffix(TEMPORARY_SUFFIX).rpartition(".")
    if writer.endswith(f".{socket.gethostname()}") and process.isdigit():
        try:
            os.kill(int(process), 0)
        except ProcessLookupError:
            return True
        except PermissionError:  # it is running, and is another user's
            return False
    try:
        return time.time() - temporary.stat().st_mtime > STALE_SECONDS
    except FileNotFoundError:  # it was renamed meanwhile
        return False


def sync_folder(folder: Path) -> None:
    """Force the names in `folder` to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
