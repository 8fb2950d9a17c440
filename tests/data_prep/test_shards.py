import json
import os
import pickle
import subprocess
import sys
import tarfile
from hashlib import sha256

import numpy as np
import pytest

from configs.errors import DataError
from data_prep.manifest import Manifest, read_manifest
from data_prep.shard_index import id_hash
from data_prep.shards import ShardSet


def test_samples_come_back_with_their_untouched_images_labels_and_turns(built, class_folders):
    assert len(built) == 12
    for number in range(12):
        sample = built.sample(number)
        label, place = divmod(number, 6)
        assert sample.id == f"pets/{('cat', 'wild_dog')[label]}/{place}"
        assert sample.image == (class_folders / ("cat", "wild_dog")[label] / f"{place}.jpg").read_bytes()
        assert (sample.label, sample.label_name) == (label, ("cat", "wild dog")[label])
        assert [turn.text for turn in sample.turns] == [
            "<image>\nWhat type of object is in this photo?",
            ("cat", "wild dog")[label],
        ]


def test_the_manifest_counts_what_the_shards_hold(built):
    manifest = built.manifest
    assert (manifest.source, manifest.reader, manifest.records, manifest.samples) == ("pets", "image_folder", 12, 12)
    assert manifest.class_names == ("cat", "wild dog")
    assert manifest.histogram == (6, 6)
    assert [entry.samples for entry in manifest.shards] == [5, 5, 2]
    for entry in manifest.shards:
        data = (built.folder / entry.name).read_bytes()
        assert (entry.bytes, entry.sha256) == (len(data), sha256(data).hexdigest())
    assert manifest.index_sha256 == sha256((built.folder / "index.npy").read_bytes()).hexdigest()
    assert Manifest.from_json(manifest.to_json()) == manifest


def test_the_index_knows_labels_sizes_and_ids(built):
    assert built.labels.tolist() == [0] * 6 + [1] * 6
    assert set(zip(built.index["width"].tolist(), built.index["height"].tolist(), strict=True)) == {(24, 16)}
    assert int(built.index["id_hash"][7]) == id_hash("pets/wild_dog/1")


def test_tarfile_finds_the_pairs_next_to_each_other_with_plain_keys(built):
    with tarfile.open(built.folder / "000002.tar") as tar:
        members = tar.getmembers()
    assert [member.name for member in members] == [
        f"{number:09d}.{extension}" for number in (10, 11) for extension in ("jpg", "json")
    ]
    assert {(member.mtime, member.uid, member.gid, member.uname) for member in members} == {(0, 0, 0, "")}


def test_the_webdataset_package_reads_the_same_bytes_in_the_same_order(built):
    webdataset = pytest.importorskip("webdataset", reason="webdataset is not installed")
    urls = [str(built.folder / entry.name) for entry in built.manifest.shards]
    read = list(webdataset.WebDataset(urls, shardshuffle=False))
    assert len(read) == len(built)
    for number, row in enumerate(read):
        sample = built.sample(number)
        assert row["jpg"] == sample.image
        assert json.loads(row["json"])["id"] == sample.id


def test_a_pickled_set_reads_the_same_in_another_process(built):
    code = "import pickle, sys; print(pickle.load(sys.stdin.buffer).sample(7).id)"
    built.sample(0)
    done = subprocess.run([sys.executable, "-c", code], input=pickle.dumps(built), capture_output=True, check=True)
    assert done.stdout.decode().strip() == "pets/wild_dog/1"


@pytest.mark.slow
def test_reading_shards_does_not_import_torch(built):
    code = (
        "import sys; from pathlib import Path; from data_prep.shards import ShardSet; import data_prep.build;"
        f"ShardSet.open(Path({str(built.folder)!r})).sample(0); print([m for m in ('torch', 'webdataset', 'scipy')"
        " if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == "[]"


def test_only_so_many_files_are_kept_open_and_all_can_be_read(built, monkeypatch):
    monkeypatch.setattr("data_prep.shards.OPEN_FILES", 1)
    again = ShardSet.open(built.folder)
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0  # noqa: PTH112, PTH208
    assert [again.sample(number).label for number in (0, 11, 4, 6, 0)] == [0, 1, 0, 1, 0]
    if before:
        assert len(os.listdir("/proc/self/fd")) <= before + 1  # noqa: PTH208


@pytest.mark.parametrize("part", ["image_offset", "json_offset"])
def test_a_flipped_bit_in_a_sample_names_the_sample_and_its_shard(built, part):
    shard = built.folder / "000001.tar"
    data = bytearray(shard.read_bytes())
    data[int(built.index[6][part]) + 20] ^= 1
    shard.write_bytes(data)
    again = ShardSet.open(built.folder)
    assert again.sample(5).id == "pets/cat/5"
    with pytest.raises(DataError, match=r"sample 6 .*000001\.tar.*damaged"):
        again.sample(6)


@pytest.mark.parametrize("number", [-1, 12])
def test_a_number_outside_the_set_is_an_index_error(built, number):
    with pytest.raises(IndexError, match="which has 12"):
        built.sample(number)


def test_a_shorter_or_missing_shard_is_noticed_on_opening(built):
    shard = built.folder / "000001.tar"
    shard.write_bytes(shard.read_bytes()[:-512])
    with pytest.raises(DataError, match=r"000001\.tar has \d+ bytes"):
        ShardSet.open(built.folder)
    shard.unlink()
    with pytest.raises(DataError, match=r"000001\.tar is missing"):
        ShardSet.open(built.folder)


def test_an_unfinished_set_says_how_to_finish_it(built, tmp_path):
    (built.folder / "manifest.json").unlink()
    with pytest.raises(DataError, match=r"unfinished.*data_prep\.build"):
        ShardSet.open(built.folder)
    with pytest.raises(DataError, match=r"does not exist.*data_prep\.build"):
        ShardSet.open(tmp_path / "nothing")


def test_a_manifest_of_another_version_or_a_damaged_one_is_refused(built):
    path = built.folder / "manifest.json"
    text = path.read_text()
    path.write_text(text.replace('"format_version": 1', '"format_version": 7'))
    with pytest.raises(DataError, match="format version 7"):
        read_manifest(built.folder)
    path.write_text(text[: len(text) // 2])
    with pytest.raises(DataError, match="damaged"):
        read_manifest(built.folder)
    path.write_text("[]")
    with pytest.raises(DataError, match="damaged"):
        read_manifest(built.folder)


def test_a_manifest_of_a_version_with_other_fields_says_so_and_how_to_build_again(built):
    path = built.folder / "manifest.json"
    values = json.loads(path.read_text())
    older = {key: value for key, value in values.items() if key not in ("notes", "exif")}
    for text, found in (
        (older, "lacks 'exif' and lacks 'notes'"),
        (values | {"hue": 1}, "has 'hue', which is unknown"),
    ):
        path.write_text(json.dumps(text))
        with pytest.raises(DataError, match=rf"{found}: another version .*data_prep\.build.* --rebuild"):
            read_manifest(built.folder)


def test_an_index_that_does_not_fit_the_manifest_is_refused(built):
    np.save(built.folder / "index.npy", built.index[:-1])
    with pytest.raises(DataError, match=r"index\.npy has shape"):
        ShardSet.open(built.folder)


def test_the_fingerprint_changes_with_the_data_only(built, class_folders, write_config, picture, tmp_path):
    from data_prep import build

    config = str(write_config(class_folders, shards=tmp_path / "again", max_drop_fraction=0.5))
    build.main(["--config", config])
    assert ShardSet.open(tmp_path / "again" / "pets").fingerprint == built.fingerprint
    (class_folders / "cat" / "0.jpg").write_bytes(picture(99))
    build.main(["--config", config, "--rebuild"])
    assert ShardSet.open(tmp_path / "again" / "pets").fingerprint != built.fingerprint
