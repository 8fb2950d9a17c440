import json
import os
import tarfile
from collections import Counter
from pathlib import Path

import pytest

from configs.errors import ConfigError, DataError
from data_prep import build
from data_prep.readers import image_folder
from data_prep.sample import Drop


def test_classes_are_the_sorted_folders_and_ids_the_paths_without_suffix(class_folders):
    source = image_folder.read(class_folders)
    assert source.class_names == ("cat", "wild dog")
    assert [record.id for record in source.records][4:8] == ["cat/4", "cat/5", "wild_dog/0", "wild_dog/1"]


def test_the_wording_is_chosen_by_name(class_folders):
    record = next(iter(image_folder.read(class_folders, prompt="authors_training").records))
    assert record.turns[0].text == "<image>\nWhat type of object is in the photo?"


def test_folders_inside_a_class_folder_belong_to_the_class(class_folders):
    (class_folders / "cat" / "deep" / "er").mkdir(parents=True)
    (class_folders / "cat" / "0.jpg").rename(class_folders / "cat" / "deep" / "er" / "0.jpg")
    ids = {record.id: record.label for record in image_folder.read(class_folders).records}
    assert ids["cat/deep/er/0"] == 0


def test_a_file_that_may_be_an_image_is_a_drop_and_what_cannot_be_one_is_ignored_and_listed(class_folders):
    (class_folders / ".git").mkdir()
    (class_folders / "cat" / "@eaDir").mkdir()
    ignored = ["cat/notes.txt", "cat/.DS_Store", "cat/Thumbs.db", "README.md", ".hidden.jpg", "cat/._0.jpg", "Icon\r"]
    for name in (*ignored, "cat/phone.heic", "cat/noextension", "loose.jpg", "cat/@eaDir/0.jpg"):
        (class_folders / name).write_text("x")
    source = image_folder.read(class_folders)
    drops = {r.id: r.reason.partition(":")[0] for r in source.records if isinstance(r, Drop)}
    assert drops == {
        "cat/phone": "not an image file",
        "cat/noextension": "not an image file",
        "loose.jpg": "outside any class folder",
    }
    assert source.ignored == tuple(sorted([*ignored, ".git", "cat/@eaDir"]))
    assert len(source.records) == 12 + 3


def test_two_files_that_differ_by_suffix_alone_keep_it_in_their_ids(class_folders):
    (class_folders / "cat" / "0.png").write_bytes(b"x")
    ids = [record.id for record in image_folder.read(class_folders).records]
    assert ids[:3] == ["cat/0.jpg", "cat/0.png", "cat/1"]
    assert len(set(ids)) == len(ids)


def test_a_limit_keeps_the_same_images_of_each_class_in_order(class_folders):
    def chosen(**options):
        return [record.id for record in image_folder.read(class_folders, **options).records]

    few, more = chosen(per_class_limit=2), chosen(per_class_limit=4)
    assert Counter(name.partition("/")[0] for name in few) == {"cat": 2, "wild_dog": 2}
    assert few == sorted(few)
    assert set(few) < set(more) < set(chosen())
    assert chosen(per_class_limit=2, seed=1) != few


def test_an_imbalance_makes_a_long_tail_in_the_order_of_the_folders(tmp_path):
    for name in "abcde":
        (tmp_path / name).mkdir()
        for number in range(80):
            (tmp_path / name / f"{number}.jpg").write_bytes(b"x")

    def chosen(**options):
        return [record.id for record in image_folder.read(tmp_path, **options).records]

    tail = chosen(imbalance=16)
    assert Counter(name[0] for name in tail) == {"a": 80, "b": 40, "c": 20, "d": 10, "e": 5}
    assert tail == sorted(tail, key=chosen().index)
    limited = Counter(name[0] for name in chosen(imbalance=16, per_class_limit=32))
    assert limited == {"a": 32, "b": 16, "c": 8, "d": 4, "e": 2}
    assert chosen(imbalance=16, seed=1) != tail
    assert chosen(imbalance=1) == chosen()
    with pytest.raises(ConfigError, match="imbalance is 0"):
        chosen(imbalance=0.5)


def test_one_folder_is_divided_into_a_training_and_a_test_part(class_folders):
    def chosen(**options):
        return [record.id for record in image_folder.read(class_folders, **options).records]

    (class_folders / "cat" / "phone.heic").write_text("x")
    train, test = chosen(part="train", test_share=0.3), chosen(part="test", test_share=0.3)
    assert sorted(train + test) == sorted(chosen()), "every file is in exactly one part"
    assert Counter(name.partition("/")[0] for name in test) == {"cat": 2, "wild_dog": 2}
    assert "cat/phone" in train, "what is no image is reported by one build, and tested by none"
    assert chosen(part="test", test_share=0.3, seed=1) != test
    assert len(chosen(part="test", test_share=0.01)) == 2, "at least one of each class"
    assert len(chosen(part="train", test_share=0.99)) == 3, "at least one of each class, and the file that is none"
    assert set(chosen(part="train", test_share=0.3, per_class_limit=2)) < set(train)


def test_a_part_of_a_class_that_cannot_be_divided_is_refused(class_folders):
    (class_folders / "bird").mkdir()
    (class_folders / "bird" / "0.jpg").write_bytes(b"x")
    with pytest.raises(DataError, match="the class folder bird has one image"):
        image_folder.read(class_folders, part="test")
    with pytest.raises(ConfigError, match="part is 'val'"):
        image_folder.read(class_folders, part="val")
    with pytest.raises(ConfigError, match="test_share is 20"):
        image_folder.read(class_folders, part="train", test_share=20)


def test_names_come_from_a_list_by_key_or_by_order(class_folders, tmp_path):
    keyed, plain = tmp_path / "keyed.json", tmp_path / "plain.txt"
    keyed.write_text('{"horse": "a horse", "wild_dog": "dingo", "cat": "house cat"}')
    plain.write_text("first\nsecond\n")
    source = image_folder.read(class_folders, class_names=str(keyed))
    assert source.class_names == ("a horse", "dingo", "house cat")
    assert {(r.id.partition("/")[0], r.label, r.label_name) for r in source.records} == {
        ("cat", 2, "house cat"),
        ("wild_dog", 1, "dingo"),
    }
    ordered = image_folder.read(class_folders, class_names=str(plain), names_by="order")
    assert {record.label_name for record in ordered.records} == {"first", "second"}


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"names_by": "colour"}, ConfigError, "choose one of: folder, key, order"),
        ({"names_by": "key"}, ConfigError, "needs class_names"),
        ({"names_by": "folder", "class_names": "imagenet"}, ConfigError, "leave class_names out"),
        ({"names_by": "order", "class_names": "imagenet"}, DataError, "2 class folders, .* 1000 names"),
        ({"class_names": "imagenet"}, DataError, "2 of 2 folders are no key .*cat, wild_dog.*n01440764"),
        ({"class_names": "no_list"}, DataError, "no class list 'no_list'.*imagenet"),
    ],
)
def test_contradictory_names_are_refused(class_folders, options, error, message):
    with pytest.raises(error, match=message):
        image_folder.read(class_folders, **options)


def test_a_folder_without_class_folders_says_what_was_expected(tmp_path):
    with pytest.raises(DataError, match="has no class folders"):
        image_folder.read(tmp_path)


def test_a_file_in_place_of_the_folder_is_reported_in_one_line(class_folders):
    with pytest.raises(DataError, match=r"cat/0\.jpg cannot be listed \(Not a directory\); fix the path"):
        image_folder.read(class_folders / "cat" / "0.jpg")


def test_the_imagenet_training_layout_takes_names_by_wnid(shared_data, tmp_path):
    with tarfile.open(shared_data / "imagenet_sample.tar") as tar:
        tar.extractall(tmp_path, filter="data")
    source = image_folder.read(tmp_path / "imagenet/train", class_names="imagenet")
    records = list(source.records)
    assert len(source.class_names) == 1000
    assert len(records) == len({record.id for record in records}) == 200
    assert (records[0].id, records[0].label, records[0].label_name) == ("n01440764/n01440764_1", 0, "tench")
    assert {record.label_name for record in records} <= set(source.class_names)


def test_a_folder_that_cannot_be_listed_is_an_error_and_not_an_empty_class(class_folders, monkeypatch):
    real = os.scandir

    def scandir(path):
        if str(path).endswith("wild_dog"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(DataError, match=r"wild_dog cannot be listed \(Permission denied\)"):
        image_folder.read(class_folders)


def test_a_link_to_a_folder_within_a_class_is_a_named_drop(class_folders, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (class_folders / "cat" / "more").symlink_to(tmp_path / "elsewhere")
    (drop,) = [record for record in image_folder.read(class_folders).records if isinstance(record, Drop)]
    assert (drop.id, drop.reason.partition(":")[0]) == ("cat/more", "a link to a folder")


def test_names_that_are_not_utf_8_are_drops_that_can_be_written_and_printed(
    class_folders, write_config, picture, capsys
):
    cat = os.fsencode(class_folders / "cat")
    for name in (b"caf\xe9.jpg", b"caf\xe9.heic", b"caf\xe9.txt"):
        Path(os.fsdecode(cat + b"/" + name)).write_bytes(picture())
    build.main(["--config", str(write_config(class_folders, max_drop_fraction=0.2))])
    printed = capsys.readouterr().out
    assert "2 of 14 records dropped" in printed
    assert "1 other files ignored (cat/caf\\udce9.txt)" in printed
    (class_folders / "cat").rename(os.fsdecode(cat + b"\xe9"))
    with pytest.raises(DataError, match=r"cat\\udce9 is not UTF-8; rename it"):
        image_folder.read(class_folders)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"per_class_limit": 0}, "per_class_limit is 0; it must be at least 1"), ({"per_class_limit": -1}, "is -1"),
     ({"imbalance": float("inf")}, "imbalance is inf"), ({"imbalance": float("nan")}, "imbalance is nan")],
)  # fmt: skip
def test_limits_that_leave_no_image_are_refused(tmp_path, options, message):
    (tmp_path / "cat").mkdir()
    with pytest.raises(ConfigError, match=message):
        image_folder.read(tmp_path, **options)


@pytest.mark.parametrize("folders", [("0", "10", "9"), ("n01440764", "cat")])
def test_folders_whose_names_are_codes_are_said(tmp_path, folders):
    for name in folders:
        (tmp_path / name).mkdir()
    (note,) = image_folder.read(tmp_path).notes
    assert f"of {len(folders)} class folders are numbers or WordNet ids" in note
    (tmp_path.parent / "names.json").write_text(json.dumps([f"class {name}" for name in folders]))
    listed = image_folder.read(tmp_path, class_names=str(tmp_path.parent / "names.json"), names_by="order")
    assert listed.notes == ()


def test_renamed_classes_are_answered_by_their_new_names_and_keep_their_numbers(class_folders):
    source = image_folder.read(class_folders, rename={"wild dog": "a wolf"})
    assert source.class_names == ("cat", "a wolf")
    record = next(record for record in source.records if record.id == "wild_dog/0")
    assert (record.label, record.label_name, record.turns[-1].text) == (1, "a wolf", "a wolf")


@pytest.mark.parametrize(
    ("rename", "complaint"),
    [
        ({"bee": "wasp"}, "rename: 'bee' is no class; the classes are 'cat', 'wild dog'"),
        ({"cat": "Wild_Dog"}, "rename: two classes would be called 'Wild_Dog'"),
        ({"cat": "wild dog"}, "rename: two classes would be called 'wild dog'"),
        ({"cat": 3}, "rename: the new name 3 is not a text"),
    ],
)
def test_a_rename_that_names_no_class_or_makes_two_of_one_name_is_refused(class_folders, rename, complaint):
    with pytest.raises(ConfigError, match=complaint):
        image_folder.read(class_folders, rename=rename)
