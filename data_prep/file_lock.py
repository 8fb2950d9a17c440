"""Locks between processes. Every lock of the program is taken here, and every lock ends with its process.

Lock files are locked by the package filelock. It cannot lock a file that also holds data, share a lock among readers,
or say who holds a lock, so three functions use the system's calls:

    locked(path)              wait for a lock file, hold it for a block
    lock_file(file)           wait for an open data file, alone or with other readers
    try_lock_file(file)       hold an open data file alone, or find that another process holds it
    hold_until_exit(path)     hold a lock file for the rest of this process, with its name in the file
    hold_folder(path, …)      the same, for a folder's lock file, with an error for people
    is_held(path)             whether a process holds such a file
    refuse_if_held(path, …)   the error of hold_folder, without a lock
"""

import errno
import fcntl
import os
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from configs.errors import RunError

POLL_SECONDS = 0.02
FLOCK = "hhqqi4x"  # struct flock of 64-bit Linux: l_type, l_whence, l_start, l_len, l_pid (man 2 fcntl)
NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)  # from file systems without locks, such as some NFS mounts


class LockHeldError(Exception):
    """Another process holds the lock; `holder` describes it."""

    def __init__(self, holder: str):
        super().__init__(f"held by {holder}")
        self.holder = holder


class NoLocksError(OSError):
    """The file system has no locks."""


@contextmanager
def locked(path: Path, *, required: bool = True) -> Iterator[None]:
    """Hold the lock file `path`, which is created if missing; other processes and threads wait.

    Raises `OSError` on a file system without locks; without `required` the block runs unprotected there.
    """
    lock = FileLock(path, poll_interval=POLL_SECONDS, fallback_to_soft=False)
    try:
        lock.acquire()
    except OSError:
        if required:
            raise
        yield
        return
    try:
        yield
    finally:
        lock.release()


def lock_file(file: int, *, shared: bool = False) -> None:
    """Hold an open file (its descriptor) until it is closed, alone or `shared` with other readers; waits for others."""
    fcntl.flock(file, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)


def try_lock_file(file: int) -> bool:
    """Hold an open file (its descriptor) alone until it is closed; False if another process holds it.

    Raises `OSError` on a file system without locks.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def hold_until_exit(path: Path) -> None:
    """Hold the lock file `path` until this process ends, and write its process id and host into it.

    A POSIX lock: it ends with this process however it dies, even if forked children live on; it works on network file
    systems that have locks; and the same process may take it again. Its descriptor stays open on purpose.
    Raises `LockHeldError` if another process holds it, `NoLocksError` on a file system without locks.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    unsupported: OSError | None = None
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError) as error:
        holder = _holder(os.pread(descriptor, 200, 0))
        os.close(descriptor)
        raise LockHeldError(holder) from error
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        unsupported = error
    os.truncate(descriptor, 0)
    os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
    if unsupported is not None:
        raise NoLocksError(unsupported.errno, unsupported.strerror) from unsupported


def hold_folder(lock: Path, doing: str, *, remedy: str = "wait for it, or stop it", unlocked: str) -> None:
    """`hold_until_exit`, for the lock file of a folder that one process alone may write.

    Raises `RunError`: `FOLDER is DOING by HOLDER; REMEDY`. Without locks, `unlocked` is printed: what a person must see
    to.
    """
    try:
        hold_until_exit(lock)
    except LockHeldError as error:
        raise _held(lock, doing, error.holder, remedy) from error
    except NoLocksError:
        print(f"{lock.parent} is on a file system without locks: {unlocked}", file=sys.stderr, flush=True)


def refuse_if_held(lock: Path, doing: str, *, remedy: str) -> None:
    """Raise the error of `hold_folder` if another process holds `lock`; nothing is locked to find out."""
    if is_held(lock):
        raise _held(lock, doing, _holder(lock.read_bytes()[:200]), remedy)


def _held(lock: Path, doing: str, holder: str, remedy: str) -> RunError:
    return RunError(f"{lock.parent} is {doing} by {holder}; {remedy}")


def _holder(content: bytes) -> str:
    """Who wrote the content of a lock file."""
    return content.decode(errors="replace").strip() or "another process"


def is_held(path: Path) -> bool:
    """Whether another process holds the lock file `path` of `hold_until_exit`; nothing is locked to find out.

    False also where the system cannot say: no such file, or a file system without locks. On a network file system the
    holder may be on another machine.
    """
    question = struct.pack(FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    try:
        with path.open("rb") as file:
            answer = fcntl.fcntl(file, fcntl.F_GETLK, question)
    except OSError:
        return False
    kind: int = struct.unpack(FLOCK, answer)[0]
    return kind != fcntl.F_UNLCK
