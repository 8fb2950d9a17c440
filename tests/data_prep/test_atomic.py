"""Folders that are whole or absent, whatever happens to who writes them."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from data_prep.atomic import atomic_folder

KILLED = """
import os, signal, sys
from pathlib import Path
from data_prep.atomic import atomic_folder
with atomic_folder(Path(sys.argv[1])) as folder:
    (folder / "half").touch()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_folder_takes_its_name_and_the_place_of_an_older_one_at_the_end(tmp_path: Path) -> None:
    (tmp_path / "export").mkdir()
    (tmp_path / "export/old").touch()
    with atomic_folder(tmp_path / "export") as folder:
        (folder / "new").touch()
        assert names(tmp_path / "export") == {"old"}
    assert names(tmp_path / "export") == {"new"} and names(tmp_path) == {"export"}


def test_after_an_error_only_the_older_folder_is_left(tmp_path: Path) -> None:
    (tmp_path / "export").mkdir()
    (tmp_path / "export/old").touch()
    with pytest.raises(RuntimeError), atomic_folder(tmp_path / "export"):
        raise RuntimeError
    assert names(tmp_path) == {"export"} and names(tmp_path / "export") == {"old"}


def test_what_a_killed_writer_left_is_removed_by_the_next_and_nothing_else_is(tmp_path: Path) -> None:
    """A folder of the same kind that another living process writes stays, and so do other names."""
    export = tmp_path / "deep" / "export"
    code = subprocess.run([sys.executable, "-c", KILLED, str(export)], cwd=Path(__file__).parents[2], check=False)
    assert code.returncode == -signal.SIGKILL
    (left,) = names(export.parent)
    alive = left.replace(left.split(".")[-2], str(os.getppid()))
    (export.parent / alive).mkdir()
    (export.parent / ".other.tmp").touch()
    with atomic_folder(export):
        pass
    assert names(export.parent) == {"export", alive, ".other.tmp"}


def test_the_files_of_a_folder_may_be_read_by_whoever_the_umask_lets(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with atomic_folder(tmp_path / "export") as folder:
            (folder / "adapter").mkdir()
            for name in ("model.safetensors", "adapter/private"):
                os.close(os.open(folder / name, os.O_CREAT, 0o600))
            (folder / "link").symlink_to("/nowhere")
    finally:
        os.umask(before)
    modes = [(tmp_path / "export" / name).stat().st_mode & 0o777 for name in ("model.safetensors", "adapter/private")]
    assert modes == [0o640, 0o640]
