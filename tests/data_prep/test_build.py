"""What a build makes of its records, what it drops, and what it tells."""

import errno
import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest

from configs.errors import DataError
from data_prep import atomic, build, registry
from data_prep.sample import Drop, Sample, Source, Turn
from data_prep.shards import ShardSet
from data_prep.validate import read_image, unusable

from .conftest import contents, fails, run


def test_a_damaged_image_is_dropped_with_its_reason_and_the_rest_stays(class_folders, write_config, tmp_path, capsys):
    victim = class_folders / "cat" / "3.jpg"
    victim.write_bytes(victim.read_bytes()[:300])
    run("--config", write_config(class_folders, max_drop_fraction=0.1))
    shards = ShardSet.open(tmp_path / "shards/pets")
    (drop,) = shards.manifest.drops
    assert (drop.id, drop.file) == ("cat/3", str(victim))
    assert drop.reason.startswith("does not decode: ")
    assert (shards.manifest.records, len(shards)) == (12, 11)
    assert [shards.sample(number).id for number in (2, 3)] == ["pets/cat/2", "pets/cat/4"]
    assert shards.manifest.histogram == (5, 6)
    out = capsys.readouterr().out
    assert "1 of 12 records dropped" in out
    assert f"1 x does not decode ({victim})" in out


def test_a_small_build_does_not_fail_over_what_a_system_left_but_lists_it(
    class_folders, write_config, tmp_path, capsys
):
    config = write_config(class_folders)
    for name in ("cat/Thumbs.db", "cat/.DS_Store", "notes.txt", "wild_dog/labels.csv"):
        (class_folders / name).write_bytes(b"x")
    run("--config", config, "--check-only")
    assert "4 other files ignored (cat/.DS_Store, cat/Thumbs.db, notes.txt, ...)" in capsys.readouterr().out
    run("--config", config)
    assert "4 other files ignored (cat/.DS_Store, cat/Thumbs.db, notes.txt, ...)" in capsys.readouterr().out
    manifest = ShardSet.open(tmp_path / "shards/pets").manifest
    assert manifest.ignored == ("cat/.DS_Store", "cat/Thumbs.db", "notes.txt", "wild_dog/labels.csv")
    assert (manifest.samples, manifest.records, manifest.drops) == (12, 12, ())
    (class_folders / "cat" / "phone.heic").write_bytes(b"x")
    assert "1 of 13 records dropped" in fails(capsys, "--config", config, "--rebuild")


def test_without_the_decode_check_only_the_header_is_read(class_folders, write_config, tmp_path):
    victim = class_folders / "cat" / "3.jpg"
    victim.write_bytes(victim.read_bytes()[:-20])
    run("--config", write_config(class_folders, decode_check="false"))
    assert len(ShardSet.open(tmp_path / "shards/pets")) == 12


def test_too_many_drops_fail_with_the_setting_and_the_worst_files(class_folders, write_config, tmp_path, capsys):
    for number in (1, 2):
        (class_folders / "cat" / f"{number}.jpg").write_bytes(b"<html>")
    config = write_config(class_folders, max_drop_fraction=0.1)
    line = fails(capsys, "--config", config)
    assert "2 of 12 records dropped (16.67%), more than data.max_drop_fraction = 0.1: 2 x not an image" in line
    assert str(class_folders / "cat" / "1.jpg") in line
    assert not (tmp_path / "shards/pets/manifest.json").exists()
    run("--config", config, "--set", "data.max_drop_fraction=0.2")
    assert "0 shards written, 3 kept; 2 of 12 records dropped" in capsys.readouterr().out


def test_a_hundred_drops_in_a_row_stop_the_build(class_folders, write_config, capsys):
    for number in range(6, 106):
        (class_folders / "cat" / f"0{number:03d}.jpg").write_bytes(b"")
    line = fails(capsys, "--config", write_config(class_folders, max_drop_fraction=1))
    assert "100 records in a row were dropped" in line
    assert str(class_folders / "cat" / "0105.jpg") in line


def test_check_only_reports_every_drop_and_writes_nothing(class_folders, write_config, tmp_path, capsys):
    (class_folders / "cat" / "1.jpg").write_bytes(b"<html>")
    config = write_config(class_folders, max_drop_fraction=0.5)
    run("--config", config, "--check-only")
    out = capsys.readouterr().out
    assert "1 of 12 records would be dropped; nothing was written" in out
    assert "cat/1: not an image" in out
    assert not (tmp_path / "shards").exists()
    assert "max_drop_fraction" in fails(capsys, "--config", config, "--check-only", "--set", "data.max_drop_fraction=0")


def test_two_samples_with_one_id_are_an_error(tmp_path, write_config, monkeypatch, capsys):
    twin = Sample(id="twin", turns=(Turn("human", "a?"), Turn("gpt", "b")))
    monkeypatch.setattr(registry, "find_reader", lambda name: lambda path=None: Source((), iter([twin] * 7)))
    line = fails(capsys, "--config", write_config(None, samples_per_shard=5))
    assert "the id 'pets/twin' occurs more than once" in line


def test_a_reader_may_be_a_generator_of_unknown_length(tmp_path, write_config, monkeypatch):
    def records():
        for number in range(11):
            yield (
                Sample(id=str(number), turns=(Turn("human", "a?"), Turn("gpt", "b")))
                if number
                else Drop("0", "test: x")
            )

    monkeypatch.setattr(registry, "find_reader", lambda name: lambda path=None: Source((), records()))
    for processes in (1, 2):
        folder = tmp_path / f"by{processes}"
        run("--config", write_config(None, shards=folder, max_drop_fraction=0.5), "--processes", processes)
        shards = ShardSet.open(folder / "pets")
        assert [shards.sample(number).id for number in range(10)] == [f"pets/{number}" for number in range(1, 11)]
        assert shards.sample(0).image is None
        assert shards.labels.tolist() == [-1] * 10


def test_every_unusable_conversation_is_dropped_with_its_own_reason():
    def why(*texts: str, image: bytes | None = None, label: int | None = None, speakers: str = "hghg") -> str | None:
        names = {"h": "human", "g": "gpt"}
        turns = tuple(Turn(names[speaker], text) for speaker, text in zip(speakers, texts, strict=False))
        return unusable(Sample(id="x", turns=turns, image=image, label=label), 3)

    assert why("a?", "b") is None
    assert why("<image>\na?", "b", "c?", "d", image=b"") is None
    assert why("a?", "b", label=3).startswith("label out of range: 3; the source has 3")
    assert why("a?", "b", label=-1).startswith("label out of range")
    assert why().startswith("turns do not alternate: there are none")
    assert why("a?", "b", speakers="gh").startswith("turns do not alternate: gpt, human")
    assert why("a?", " \n").startswith("empty answer")
    assert why("a?", "b", image=b"").startswith("wrong number of <image>: 0 for 1")
    assert why("<image>a?", "b", "<image>c?", "d", image=b"").startswith("wrong number of <image>: 2 for 1")
    assert why("<image>a?", "b").startswith("wrong number of <image>: 1 for 0")
    assert why("a?", "<image>b", image=b"").startswith("misplaced <image>")


def test_storage_that_fails_stops_the_build_and_drops_nothing():
    def broken() -> bytes:
        raise OSError(errno.EIO, "Input/output error", "/data/a.jpg")

    with pytest.raises(DataError, match=r"'/data/a\.jpg' cannot be read"):
        read_image(broken)


def test_a_full_disk_is_reported_in_one_line_and_leaves_no_partial_file(
    class_folders, write_config, tmp_path, monkeypatch, capsys
):
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(atomic.os, "fsync", full)
    line = fails(capsys, "--config", write_config(class_folders))
    assert "000000.tar cannot be written (No space left on device); make room" in line
    assert list((tmp_path / "shards/pets").iterdir()) == []


def test_a_disk_that_is_full_at_the_end_is_reported_in_one_line(class_folders, write_config, monkeypatch, capsys):
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if ".manifest.json" in str(Path(f"/proc/self/fd/{descriptor}").readlink()):
            raise OSError(28, "No space left on device")
        real(descriptor)

    config = write_config(class_folders)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        assert "cannot be written (No space left on device); make room" in fails(capsys, "--config", config)
    run("--config", config)
    assert "0 shards written, 3 kept" in capsys.readouterr().out


def test_sources_can_be_chosen_and_a_wrong_name_lists_them(class_folders, write_config, capsys):
    line = fails(capsys, "--config", write_config(class_folders), "--sources", "pests")
    assert "'pests'; data.sources has: pets" in line


def test_an_evaluation_config_builds_the_same_way(class_folders, tmp_path, built):
    config = tmp_path / "eval.yaml"
    config.write_text(
        f"name: test\nmodel: some/model\nsource: pets\nprotocol: {{task: open_world}}\n"
        f"data:\n  shards: {tmp_path}/eval\n  samples_per_shard: 5\n"
        f"  sources:\n    pets: {{reader: image_folder, path: {class_folders}}}\n"
    )
    run("--config", config)
    assert contents(tmp_path / "eval" / "pets") == contents(built.folder)


def test_the_settings_can_be_printed_without_building(class_folders, write_config, tmp_path, capsys):
    with pytest.raises(SystemExit, match="0"):
        run("--config", write_config(class_folders), "--print-config")
    assert "data.samples_per_shard = 5" in capsys.readouterr().out
    assert not (tmp_path / "shards").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("data.sources.pets.reader=image_foldr", "unknown reader 'image_foldr'; did you mean image_folder? known"),
        ("data.sources.pets.options.promt=paper", "unknown option 'promt'; did you mean prompt? options of reader"),
        ("data.sources.pets.options.prompt=papr", "unknown prompt 'papr'; known prompts: paper"),
        ("data.sources.pets.options.seed=zero", "option seed of reader image_folder is 'zero'; it must be int"),
        ("data.sources.pets.options.seed=true", "option seed of reader image_folder is True; it must be int"),
        ("data.sources.pets.path=/no/such/folder", "data.sources.pets: the path /no/such/folder does not exist; set"),
        (
            "data.sources.pets.reader=imagenet_train_tar",
            "data.sources.pets: {raw} has no .tar",
        ),
        ("data.sources.pets.path=null", "data.sources.pets: reader image_folder needs a path"),
        ("data.sources.pets.reader=toy_world", "reader toy_world needs the option 'part'"),
        ("data.shards=/dev/null", "cannot make the folder /dev/null/pets"),
    ],
)
def test_mistakes_are_reported_in_one_line_before_anything_is_built(
    class_folders, write_config, capsys, setting, message
):
    told = fails(capsys, "--config", write_config(class_folders), "--set", setting)
    assert message.replace("{raw}", str(class_folders)) in told


def test_the_readers_are_listed_with_their_options(capsys):
    with pytest.raises(SystemExit) as stop:
        run("--list-readers")
    assert not stop.value.code
    out = capsys.readouterr().out
    assert "image_folder: " in out
    assert "per_class_limit: int | None = None" in out


@pytest.mark.slow
def test_the_ten_thousand_cifar_photographs_build_and_read_back(shared_data, write_config, tmp_path):
    with tarfile.open(shared_data / "cifar10_images.tar") as tar:
        members = [member for member in tar if member.name.startswith("cifar10/test/")]
        tar.extractall(tmp_path, members, filter="data")
    run("--config", write_config(tmp_path / "cifar10/test", samples_per_shard=300))
    shards = ShardSet.open(tmp_path / "shards/pets")
    assert (len(shards), shards.manifest.class_names[0]) == (2000, "airplane")
    assert np.bincount(shards.labels).tolist() == [200] * 10
    assert json.loads((tmp_path / "shards/pets/manifest.json").read_text())["drops"] == []


def test_a_source_without_records_is_an_error(write_config, tmp_path, capsys):
    (tmp_path / "empty.json").write_text("[]")
    config = write_config(tmp_path / "empty.json", "llava", f"{{image_roots: {tmp_path}}}")
    assert "source pets has no records; is data.sources.pets.path the right" in fails(capsys, "--config", config)


def test_check_only_looks_at_every_source_before_it_ends(class_folders, write_config, tmp_path, capsys):
    config = write_config(class_folders)
    sets = []
    for name, path in (("first", tmp_path / "gone"), ("last", class_folders)):
        sets += ["--set", f"data.sources.{name}.reader=image_folder", "--set", f"data.sources.{name}.path={path}"]
    with pytest.raises(SystemExit) as left:
        build.main(["--config", str(config), *sets, "--check-only", "--sources", "first,pets,last"])
    captured = capsys.readouterr()
    assert left.value.code == 2
    assert "error: data.sources.first" in captured.err
    assert "error: 1 of 3 sources have errors, which are above: first" in captured.err
    assert captured.out.count("12 records") == 2
