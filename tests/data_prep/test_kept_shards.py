"""What a second build keeps, writes again, or refuses."""

import os

import pytest

from data_prep import finalise, sidecar
from data_prep.manifest import ReferencedFile
from data_prep.shards import ShardSet
from data_prep.validate import validate_record

from .conftest import contents, fails, run


def test_a_second_build_keeps_every_shard(built, class_folders, write_config, capsys):
    before = contents(built.folder)
    times = {path: path.stat().st_mtime_ns for path in built.folder.glob("*.tar")}
    run("--config", write_config(class_folders))
    assert "0 shards written, 3 kept; 0 of 12 records dropped" in capsys.readouterr().out
    assert contents(built.folder) == before
    assert {path: path.stat().st_mtime_ns for path in built.folder.glob("*.tar")} == times


def test_other_settings_or_files_are_refused_until_rebuild(built, class_folders, write_config, picture, capsys):
    changed = write_config(class_folders, samples_per_shard=4)
    assert "other settings (samples_per_shard 5 -> 4); pass --rebuild" in fails(capsys, "--config", changed)
    run("--config", changed, "--rebuild")
    assert [entry.samples for entry in ShardSet.open(built.folder).manifest.shards] == [4, 4, 4]
    (class_folders / "cat" / "3.jpg").write_bytes(picture(5) + b"more")
    assert "from other records" in fails(capsys, "--config", changed)
    run("--config", changed, "--rebuild")
    assert "1 shard written, 2 kept" in capsys.readouterr().out


@pytest.mark.parametrize("how", ["written", "moved there, and old"])
def test_an_image_replaced_by_one_of_its_size_is_noticed(built, class_folders, write_config, tmp_path, how, capsys):
    image = class_folders / "cat" / "3.jpg"
    data = bytearray(image.read_bytes())
    data[-30] ^= 1  # in the scan: it still decodes
    other = image if how == "written" else tmp_path / "other.jpg"
    other.write_bytes(data)
    os.utime(other, (0, 0))
    other.rename(image)
    config = write_config(class_folders)
    assert "000000.tar was built from other records" in fails(capsys, "--config", config)
    run("--config", config, "--rebuild")
    assert "1 shard written, 2 kept" in capsys.readouterr().out
    assert ShardSet.open(built.folder).sample(3).image == data


def test_images_that_were_only_copied_again_keep_their_shards_and_are_read_once(
    built, class_folders, write_config, monkeypatch, capsys
):
    for image in class_folders.glob("*/*.jpg"):
        image.write_bytes(image.read_bytes())
    config = write_config(class_folders)
    for reads in (12, 0):
        seen = []
        monkeypatch.setattr(
            sidecar, "validate_record", lambda *a, seen=seen, **k: seen.append(a[0].id) or validate_record(*a, **k)
        )
        run("--config", config)
        assert "0 shards written, 3 kept" in capsys.readouterr().out
        assert len(seen) == reads


def test_fewer_records_than_before_leave_no_old_shards_behind(built, class_folders, write_config):
    for path in (class_folders / "wild_dog").glob("[2-5].jpg"):
        path.unlink()
    run("--config", write_config(class_folders), "--rebuild")
    assert sorted(path.name for path in built.folder.glob("0*")) == [
        "000000.json",
        "000000.tar",
        "000001.json",
        "000001.tar",
    ]
    assert len(ShardSet.open(built.folder)) == 8


def test_a_damaged_or_missing_shard_is_written_again(built, class_folders, write_config, capsys):
    before = contents(built.folder)
    (built.folder / "000000.tar").unlink()
    (built.folder / "000001.tar").write_bytes(b"short")
    (built.folder / "000002.json").write_text("{")
    run("--config", write_config(class_folders))
    assert "3 shards written, 0 kept" in capsys.readouterr().out
    assert contents(built.folder) == before


def test_files_of_images_are_numbered_without_comparing_each_with_all_others(monkeypatch):
    compared = []
    equal = ReferencedFile.__eq__
    monkeypatch.setattr(ReferencedFile, "__eq__", lambda one, other: compared.append(one) or equal(one, other))
    row = [0] * len(sidecar.COLUMNS)
    column = sidecar.COLUMNS.index("image_file")
    shards = [
        sidecar.Sidecar(
            recipe={}, fingerprint="", records=2, bytes=0, sha256="", drops=(), texts="", notes={}, image_xxh3=[],
            files=tuple(ReferencedFile(f"{number}.tar", 9) for number in (shard, shard + 1)),
            rows=[[*row[:column], number, *row[column + 1 :]] for number in (0, 1, 2)],
        )
        for shard in range(100)
    ]  # fmt: skip
    index = finalise._index(shards)
    assert index["image_file"].reshape(100, 3).tolist() == [[0, shard + 1, shard + 2] for shard in range(100)]
    assert len(compared) < 1000
