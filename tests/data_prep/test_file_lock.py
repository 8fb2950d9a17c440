"""Locks between processes."""

import subprocess
import sys
from pathlib import Path

import pytest

from data_prep.file_lock import LockHeldError, hold_until_exit, is_held, lock_file, locked, try_lock_file

ROOT = Path(__file__).resolve().parents[2]


def start_holder(code: str, file: Path) -> "subprocess.Popen[str]":
    """A process that runs `code`, says so, and waits."""
    start = f"import sys\nfrom pathlib import Path\nfrom data_prep import file_lock\npath = Path({str(file)!r})\n"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    code = f"{start}{code}\nprint('held', flush=True)\ninput()\n"
    holder = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, text=True, **pipes)
    assert holder.stdout.readline() == "held\n"
    return holder


def test_a_lock_file_ends_with_the_process_that_holds_it(tmp_path):
    lock = tmp_path / ".lock"
    holder = start_holder("held = file_lock.locked(path)\nheld.__enter__()", lock)
    with lock.open("rb") as file:
        assert not try_lock_file(file.fileno())
    holder.kill()
    holder.communicate()
    with locked(lock):
        pass


def test_readers_share_a_file_and_keep_it_from_a_writer(tmp_path):
    data = tmp_path / "data"
    data.touch()
    holder = start_holder("file = path.open('rb')\nfile_lock.lock_file(file.fileno(), shared=True)", data)
    with data.open("rb") as file:
        lock_file(file.fileno(), shared=True)
    with data.open("rb") as file:
        assert not try_lock_file(file.fileno())
    holder.communicate("\n")
    with data.open("rb") as file:
        assert try_lock_file(file.fileno())


def test_the_holder_of_a_lock_is_named(tmp_path):
    lock = tmp_path / ".lock"
    assert not is_held(lock)
    holder = start_holder("file_lock.hold_until_exit(path)", lock)
    assert is_held(lock)
    with pytest.raises(LockHeldError, match=f"process {holder.pid} on"):
        hold_until_exit(lock)
    holder.communicate("\n")
    hold_until_exit(lock)
