"""A build by several processes and machines, and one that was killed: always the same bytes."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from data_prep import atomic, registry, sidecar
from data_prep.sample import Sample, Source, Turn
from data_prep.shards import ShardSet

from .conftest import contents, fails, run

ROOT = Path(__file__).resolve().parents[2]


KILLED_BUILD = """
import os, signal, sys
from data_prep import build, sidecar
validate_record, seen = sidecar.validate_record, []
def validate_and_die(record, *arguments, **options):
    seen.append(record)
    if len(seen) == {victim}:
        os.kill(os.getpid(), signal.SIGKILL)
    return validate_record(record, *arguments, **options)
sidecar.validate_record = validate_and_die
build.main(["--config", sys.argv[1]])
"""


@pytest.mark.slow
@pytest.mark.parametrize("victim", [1, 8, 12])
def test_a_build_killed_at_any_record_continues_to_the_same_bytes(victim, built, class_folders, write_config, tmp_path):
    config = write_config(class_folders, shards=tmp_path / "killed")
    done = subprocess.run([sys.executable, "-c", KILLED_BUILD.format(victim=victim), str(config)], cwd=ROOT)
    assert done.returncode == -9
    folder = tmp_path / "killed" / "pets"
    assert not (folder / "manifest.json").exists()
    assert len(list(folder.glob("[0-9]*.tar"))) == (victim - 1) // 5
    assert list(folder.glob(".*.tmp"))
    run("--config", config)
    assert contents(folder) == contents(built.folder)


def test_a_killed_process_of_several_is_named_and_its_work_continues(class_folders, write_config, monkeypatch, capsys):
    config = write_config(class_folders)
    with monkeypatch.context() as patch:
        patch.setattr(sidecar, "validate_record", lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL))
        assert "ended with code -9" in fails(capsys, "--config", config, "--processes", 2)
    run("--config", config, "--processes", 2)
    assert "12 samples in 3 shards" in capsys.readouterr().out


@pytest.mark.slow
def test_shards_do_not_depend_on_processes_or_workers(built, class_folders, write_config, tmp_path):
    run("--config", write_config(class_folders, shards=tmp_path / "two"), "--processes", 2)
    for worker in (2, 0, 1):
        run("--config", write_config(class_folders, shards=tmp_path / "three"), "--worker", worker, "--workers", 3)
    assert contents(tmp_path / "two" / "pets") == contents(built.folder)
    assert contents(tmp_path / "three" / "pets") == contents(built.folder)


def test_the_manifest_is_written_by_whoever_finishes_last(class_folders, write_config, tmp_path, capsys):
    config = write_config(class_folders)
    run("--config", config, "--worker", 0, "--workers", 2)
    assert "not yet written by other workers: 1 shard" in capsys.readouterr().out
    assert not (tmp_path / "shards/pets/manifest.json").exists()
    run("--config", config, "--worker", 1, "--workers", 2)
    assert len(ShardSet.open(tmp_path / "shards/pets")) == 12


@pytest.mark.slow
def test_two_workers_may_finish_at_the_same_time(class_folders, write_config, tmp_path, monkeypatch):
    config = write_config(class_folders)
    run("--config", config, "--worker", 0, "--workers", 2)
    code = f"from data_prep import build; build.main(['--config', '{config}', '--worker', '1', '--workers', '2'])"
    real = os.fsync

    def fsync(descriptor: int) -> None:
        """Before the manifest's temporary file takes its name, another worker does all that remains."""
        real(descriptor)
        if ".manifest.json" in str(Path(f"/proc/self/fd/{descriptor}").readlink()):
            subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)

    monkeypatch.setattr(os, "fsync", fsync)
    run("--config", config, "--worker", 1, "--workers", 2)
    assert len(ShardSet.open(tmp_path / "shards/pets")) == 12


def test_leftovers_are_those_of_processes_that_are_gone(tmp_path):
    gone = subprocess.Popen(["true"])
    gone.wait()
    names = {
        "mine": f".a.tar.{socket.gethostname()}.{os.getpid()}.tmp",
        "gone": f".b.tar.{socket.gethostname()}.{gone.pid}.tmp",
        "elsewhere": f".c.tar.other-machine.{gone.pid}.tmp",
        "elsewhere, long ago": f".d.tar.other-machine.{gone.pid}.tmp",
    }
    for name in names.values():
        (tmp_path / name).write_bytes(b"x")
    os.utime(tmp_path / names["elsewhere, long ago"], (0, 0))
    atomic.remove_leftovers(tmp_path)
    assert {what for what, name in names.items() if (tmp_path / name).exists()} == {"mine", "elsewhere"}


def test_an_array_of_workers_rebuilds_in_any_order(built, class_folders, write_config, capsys):
    config = write_config(class_folders, options="{prompt: identify}")
    for worker in (2, 0):
        run("--config", config, "--rebuild", "--worker", worker, "--workers", 3)
        assert "not yet written by other workers" in capsys.readouterr().out
        assert not (built.folder / "manifest.json").exists()
    run("--config", config, "--rebuild", "--worker", 1, "--workers", 3)
    assert "Identify" in ShardSet.open(built.folder).sample(11).turns[0].text


def test_workers_that_see_different_records_do_not_make_a_set(class_folders, write_config, capsys):
    config = write_config(class_folders, samples_per_shard=6)
    run("--config", config, "--worker", 0, "--workers", 2)
    (class_folders / "cat" / "2.jpg").unlink()  # now wild_dog/0 would stand in neither shard
    line = fails(capsys, "--config", config, "--worker", 1, "--workers", 2)
    assert "000000.tar was built from other records (by another worker" in line
    assert "other records" in fails(capsys, "--config", config, "--finalise")
    run("--config", config, "--rebuild")
    assert "11 samples in 2 shards" in capsys.readouterr().out


def test_workers_of_a_generator_that_see_different_records_do_not_make_a_set(write_config, monkeypatch, capsys):
    names = list("abcdefgh")

    def read(path=None) -> Source:
        return Source((), (Sample(id=name, turns=(Turn("human", "a?"), Turn("gpt", "b"))) for name in names))

    monkeypatch.setattr(registry, "find_reader", lambda name: read)
    config = write_config(None, samples_per_shard=4)
    run("--config", config, "--worker", 0, "--workers", 2)
    del names[2]  # now e would stand in neither shard
    for last in (("--worker", 1, "--workers", 2), ("--finalise",)):
        assert "000000.tar was built from other records (by another" in fails(capsys, "--config", config, *last)


def test_finalise_only_writes_the_manifest_and_says_what_is_missing(built, class_folders, write_config, capsys):
    before = contents(built.folder)
    config = write_config(class_folders)
    (built.folder / "manifest.json").unlink()
    run("--config", config, "--finalise")
    assert contents(built.folder) == before
    (built.folder / "000001.json").unlink()
    assert "lacks 1 shard, the first of them 000001.tar" in fails(capsys, "--config", config, "--finalise")


def test_a_check_that_would_look_at_nothing_is_refused(built, class_folders, write_config, capsys):
    with pytest.raises(SystemExit, match="2"):
        run("--config", write_config(class_folders), "--check-only", "--finalise")
    assert "argument --finalise: not allowed with argument --check-only" in capsys.readouterr().err


def test_a_worker_number_outside_the_workers_is_refused(class_folders, write_config, capsys):
    line = fails(capsys, "--config", write_config(class_folders), "--worker", 2, "--workers", 2)
    assert "--worker 2 --workers 2" in line
