"""Test sets in the form that they are published in, on tiny copies, whole and damaged."""

import json
from pathlib import Path

import pytest

from configs.data import DataConfig, SourceConfig
from configs.errors import ConfigError, DataError
from data_prep.class_names import load_class_list
from data_prep.registry import open_source
from tests.data_prep.conftest import fails, run

# reader: (options, list file, its lines, folder of the images, expected (id, file, class name) of each line)
SETS = {
    "dtd": (
        {"split": "test", "partition": 2},
        "labels/test2.txt",
        ["banded/banded_0002.jpg", "polka-dotted/polka-dotted_0101.jpg"],
        "images",
        [
            ("banded/banded_0002", "banded/banded_0002.jpg", "banded"),
            ("polka-dotted/polka-dotted_0101", "polka-dotted/polka-dotted_0101.jpg", "polka-dotted"),
        ],
    ),
    "food101": (
        {"split": "test"},
        "meta/test.txt",
        ["apple_pie/1011328", "waffles/45"],
        "images",
        [("apple_pie/1011328", "apple_pie/1011328.jpg", "apple pie"), ("waffles/45", "waffles/45.jpg", "waffles")],
    ),
    "oxford_pets": (
        {"split": "test"},
        "annotations/test.txt",
        ["Abyssinian_201 1 1 1", "american_pit_bull_terrier_100 3 2 2", "Maine_Coon_9 21 1 6"],
        "images",
        [
            ("Abyssinian_201", "Abyssinian_201.jpg", "Abyssinian"),
            ("american_pit_bull_terrier_100", "american_pit_bull_terrier_100.jpg", "American Pit Bull Terrier"),
            ("Maine_Coon_9", "Maine_Coon_9.jpg", "Maine Coon"),
        ],
    ),
    "fgvc_aircraft": (
        {"split": "test"},
        "images_variant_test.txt",
        ["1514522 707-320", "0034309 Boeing 717", "0001 F-16A/B"],
        "images",
        [
            ("1514522", "1514522.jpg", "707-320"),
            ("0034309", "0034309.jpg", "Boeing 717"),
            ("0001", "0001.jpg", "F-16A/B"),
        ],
    ),
    "sun397": (
        {"split": "test"},
        "Testing_01.txt",
        ["/a/abbey/sun_a.jpg", "/a/apartment_building/outdoor/sun_b.jpg"],
        "SUN397",
        [
            ("a/abbey/sun_a", "a/abbey/sun_a.jpg", "abbey"),
            (
                "a/apartment_building/outdoor/sun_b",
                "a/apartment_building/outdoor/sun_b.jpg",
                "outdoor apartment building",
            ),
        ],
    ),
    "ucf101": (
        {"split": "train"},
        "ucfTrainTestlist/trainlist01.txt",
        ["ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1", "HandstandPushups/v_HandStandPushups_g08_c01.avi 37"],
        "UCF-101-midframes",
        [
            (
                "Apply_Eye_Makeup/v_ApplyEyeMakeup_g08_c01",
                "Apply_Eye_Makeup/v_ApplyEyeMakeup_g08_c01.jpg",
                "apply eye makeup",
            ),
            (
                "Handstand_Pushups/v_HandStandPushups_g08_c01",
                "Handstand_Pushups/v_HandStandPushups_g08_c01.jpg",
                "handstand pushups",
            ),
        ],
    ),
}


def tiny_copy(root: Path, reader: str, lines: list[str] | None = None, end: str = "\n") -> Path:
    _, list_file, published, images, expected = SETS[reader]
    (root / list_file).parent.mkdir(parents=True, exist_ok=True)
    (root / list_file).write_bytes(end.join([*(lines or published), ""]).encode())
    for _, file, _ in expected:
        (root / images / file).parent.mkdir(parents=True, exist_ok=True)
        (root / images / file).write_bytes(b"")
    (root / images / ".DS_Store").write_bytes(b"\0")
    return root


def records(reader: str, root: Path, **options) -> list:
    source = SourceConfig(reader=reader, path=str(root), options=SETS[reader][0] | options)
    return list(open_source(DataConfig(sources={"it": source}), "it").records)


@pytest.mark.parametrize("reader", SETS)
def test_a_published_list_gives_each_image_its_file_and_class(tmp_path, reader):
    root = tiny_copy(tmp_path, reader)
    found = records(reader, root)
    folder = root / SETS[reader][3]
    assert [(r.id, r.image.relative_to(folder).as_posix(), r.label_name) for r in found] == SETS[reader][4]
    assert all(load_class_list(reader).names[r.label] == r.label_name == r.turns[-1].text for r in found)
    assert all(r.image.is_file() for r in found)


@pytest.mark.parametrize("reader", SETS)
def test_blank_lines_windows_line_ends_and_a_byte_order_mark_do_not_matter(tmp_path, reader):
    plain = records(reader, tiny_copy(tmp_path, reader))
    published = SETS[reader][2]
    spread = ["", published[0] + "  ", " ", *published[1:], "", ""]
    assert records(reader, tiny_copy(tmp_path, reader, spread, "\r\n")) == plain
    file = tmp_path / SETS[reader][1]
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert records(reader, tmp_path) == plain


@pytest.mark.parametrize("reader", SETS)
def test_an_image_listed_twice_is_an_error_with_both_lines(tmp_path, reader):
    lines = SETS[reader][2]
    tiny_copy(tmp_path, reader, [*lines, "", lines[0]])
    with pytest.raises(DataError, match=rf"line {len(lines) + 2} .*in line 1 of .* already.*remove one"):
        records(reader, tmp_path)


@pytest.mark.parametrize(
    ("reader", "line", "message"),
    [
        ("dtd", "velvet/velvet_1.jpg", r"line 1 .*class 'velvet' is none of the 47"),
        ("dtd", "banded/../braided/1.jpg", "relative to .* without"),
        ("dtd", "banded_0002.jpg", "class 'banded_0002.jpg' is none"),
        ("food101", "Apple_Pie/1", "class 'Apple_Pie' is none of the 101"),
        ("oxford_pets", "Abyssinian_1 38 1 1", "class is '38'; it must be a number from 1 to 37"),
        ("oxford_pets", "Abyssinian_1 0 1 1", "class is '0'; it must be a number from 1 to 37"),
        ("oxford_pets", "Abyssinian_1 2 1 1", "2 is 'American Bulldog'; the file's name says another breed"),
        ("oxford_pets", "Abyssinian_1 1", "a file's name and three numbers"),
        ("fgvc_aircraft", "1514522", "class '' is none of the 100"),
        ("fgvc_aircraft", "1514522 Boeing 707", "class 'Boeing 707' is none of the 100"),
        ("sun397", "/a/abbot/sun_a.jpg", "class '/a/abbot' is none of the 397"),
        ("ucf101", "ApplyEyeMakeup/v.avi 2", "number 2 is not that of ApplyEyeMakeup, 1"),
        ("ucf101", "ApplyEyeMakeup/v.avi 102", "class is '102'; it must be a number from 1 to 101"),
    ],
)
def test_a_damaged_line_is_an_error_that_names_it(tmp_path, reader, line, message):
    tiny_copy(tmp_path, reader, [line])
    with pytest.raises(DataError, match=message):
        records(reader, tmp_path)


@pytest.mark.parametrize("reader", SETS)
def test_what_is_not_there_is_named(tmp_path, reader):
    with pytest.raises(DataError, match="set path to the unpacked folder of"):
        records(reader, tmp_path)
    with pytest.raises(ConfigError, match=r"split is 'dev'; choose one of: "):
        records(reader, tiny_copy(tmp_path, reader), split="dev")
    file = tmp_path / SETS[reader][1]
    file.write_text(" \n\n")
    with pytest.raises(DataError, match="is empty"):
        records(reader, tmp_path)
    file.unlink()
    with pytest.raises(DataError, match=f"{file.name}"):
        records(reader, tmp_path)


def test_a_partition_that_does_not_exist_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="partition is 11; choose one of: 1, 2, "):
        records("dtd", tiny_copy(tmp_path, "dtd"), partition=11)


def test_videos_of_ucf101_without_their_middle_frames_are_refused(tmp_path):
    (tmp_path / "ucfTrainTestlist").mkdir()
    (tmp_path / "UCF-101/ApplyEyeMakeup").mkdir(parents=True)
    with pytest.raises(DataError, match="UCF-101-midframes; videos are not decoded here: take the middle frame"):
        records("ucf101", tmp_path)


def test_the_folder_above_the_unpacked_one_is_a_path_too(tmp_path):
    tiny_copy(tmp_path / "dtd", "dtd")
    assert len(records("dtd", tmp_path)) == 2


def test_a_listed_image_that_is_missing_is_a_named_drop_of_the_build(tmp_path, write_config, picture, capsys):
    root = tiny_copy(tmp_path / "raw", "dtd")
    (root / "images/banded/banded_0002.jpg").write_bytes(picture(1))
    (root / "images/polka-dotted/polka-dotted_0101.jpg").unlink()
    config = write_config(root, "dtd", "{split: test, partition: 2}", max_drop_fraction=0.5)
    run("--config", config)
    assert "missing file" in (out := capsys.readouterr().out) and "polka-dotted_0101" in out
    assert "1 of 2" in fails(capsys, "--config", write_config(root, "dtd", "{split: test, partition: 2}"), "--rebuild")


def numbered_folders(root: Path, names: list[str]) -> Path:
    for name in names:
        (root / name).mkdir(parents=True)
        (root / name / "a.jpeg").write_bytes(b"\xff\xd8\xff")
    (root / ".DS_Store").write_bytes(b"")
    return root


def image_folder(root: Path, **options) -> list:
    source = SourceConfig(reader="image_folder", path=str(root), options=options)
    return list(open_source(DataConfig(sources={"it": source}), "it").records)


def test_the_numbered_folders_of_imagenet_v2_are_class_indexes_not_an_alphabet(tmp_path):
    root = numbered_folders(tmp_path, ["0", "1", "10", "2", "999"])
    names = load_class_list("imagenet").names
    found = image_folder(root, class_names="imagenet", names_by="index")
    assert {r.id: (r.label, r.label_name) for r in found} == {f"{n}/a": (n, names[n]) for n in (0, 1, 2, 10, 999)}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["0", "1000"], "1 of 2 folders are no class index .* 0 to 999: 1000"),
        (["0", "tench"], "no class index .*: tench"),
        (["1", "01"], "two folders are the class index 1"),
    ],
)
def test_folders_that_are_no_class_index_are_refused(tmp_path, names, message):
    with pytest.raises(DataError, match=message):
        image_folder(numbered_folders(tmp_path, names), class_names="imagenet", names_by="index")


def test_numbered_folders_read_as_wnids_are_refused_with_the_way_to_read_them(tmp_path):
    with pytest.raises(DataError, match="names_by: index takes a folder's number as class index"):
        image_folder(numbered_folders(tmp_path, ["0", "10"]), class_names="imagenet")


@pytest.mark.parametrize(("name", "folder"), [("imagenet_a", "n01498041"), ("imagenet_r", "n01443537")])
def test_the_subsets_of_imagenet_have_200_of_its_classes_under_its_names(tmp_path, name, folder):
    classes, imagenet = load_class_list(name), load_class_list("imagenet")
    assert len(classes.names) == 200
    assert all(imagenet.names[imagenet.by_key[k]] == n for k, n in zip(classes.keys, classes.names, strict=True))
    (record,) = image_folder(numbered_folders(tmp_path, [folder]), class_names=name)
    assert record.label == 0
    (tmp_path / "n01440764").mkdir()
    with pytest.raises(DataError, match="1 of 2 folders are no key of class_names"):
        image_folder(tmp_path, class_names=name)


def test_eurosat_s_folders_have_readable_names(tmp_path):
    found = image_folder(numbered_folders(tmp_path, ["AnnualCrop", "SeaLake"]), class_names="eurosat")
    assert [r.label_name for r in found] == ["annual crop land", "sea or lake"]


def coop(tmp_path: Path, parts: object, **options) -> list:
    (tmp_path / "images").mkdir(exist_ok=True)
    for row in parts.get("test", []) + parts.get("train", []) if isinstance(parts, dict) else []:
        (tmp_path / "images" / row[0]).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / row[0]).touch()
    file = tmp_path / "split.json"
    file.write_text(parts if isinstance(parts, str) else json.dumps(parts))
    given = {"split_file": str(file), "split": "test"} | options
    source = SourceConfig(reader="coop_split", path=str(tmp_path / "images"), options=given)
    return list(open_source(DataConfig(sources={"it": source}), "it").records)


def test_a_split_of_coop_is_read_with_its_names(tmp_path):
    parts = {
        "train": [["b/1.jpg", 1, "wild_dog"]],
        "val": [],
        "test": [["a/2.jpg", 0, "cat"], ["b/3.jpg", 1, "wild_dog"]],
    }
    assert [(r.id, r.label, r.label_name) for r in coop(tmp_path, parts)] == [("a/2", 0, "cat"), ("b/3", 1, "wild dog")]
    assert [r.id for r in coop(tmp_path, parts, split="train")] == ["b/1"]


def test_names_in_another_order_than_the_splits_are_refused_and_other_names_are_not(tmp_path):
    parts = {"train": [], "val": [], "test": [["a/2.jpg", 0, "Faces"], ["b/3.jpg", 1, "wild_dog"]]}
    names = tmp_path / "names.json"
    names.write_text('["face", "Wild dog"]')
    assert [r.label_name for r in coop(tmp_path, parts, class_names=str(names))] == ["face", "Wild dog"]
    names.write_text('["wild dog", "face"]')
    with pytest.raises(DataError, match=r"class 1 is 'wild dog' in .*, and 'face' in .*, where 'wild dog' is class 0"):
        coop(tmp_path, parts, class_names=str(names))


def test_files_that_differ_by_suffix_alone_are_two_images(tmp_path):
    parts = {"train": [], "val": [], "test": [["a/1.jpg", 0, "cat"], ["a/1.png", 1, "dog"], ["b/1.jpg", 1, "dog"]]}
    assert [(r.id, r.label) for r in coop(tmp_path, parts)] == [("a/1.jpg", 0), ("a/1.png", 1), ("b/1", 1)]


def test_a_suffix_in_upper_case_is_found_and_shots_are_of_the_images_that_are_there(tmp_path):
    tiny_copy(tmp_path, "food101", ["apple_pie/1011328", "apple_pie/2", "waffles/45"])
    (tmp_path / "images/apple_pie/1011328.jpg").rename(tmp_path / "images/apple_pie/1011328.JPG")
    first, missing, _ = records("food101", tmp_path)
    assert first.id == "apple_pie/1011328" and first.image.name == "1011328.JPG"
    assert missing.id == "apple_pie/2" and missing.reason == "missing file: test.txt lists it"
    for seed in range(4):  # the missing one would be chosen by some of these seeds
        chosen = records("food101", tmp_path, shots=1, shots_seed=seed, shots_short="keep")
        assert [r.id for r in chosen] == ["apple_pie/1011328", "waffles/45"]


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ("{", "no valid JSON"),
        ({"train": []}, "an object with the lists train, val and test"),
        ({"train": [], "val": [], "test": [["a.jpg", "0", "cat"]]}, "path, class index and class name"),
        ({"train": [], "val": [], "test": [["a.jpg", -1, "cat"]]}, "path, class index and class name"),
        ({"train": [["b.jpg", 0, "dog"]], "val": [], "test": [["a.jpg", 0, "cat"]]}, "class 0 is called 'dog'"),
        ({"train": [], "val": [], "test": [["a.jpg", 1, "cat"]]}, "1 class and none has the index 0"),
        ({"train": [], "val": [], "test": [["a.jpg", 0, "cat"], ["a.jpg", 0, "cat"]]}, "remove one"),
        ({"train": [["a.jpg", 0, "cat"]], "val": [], "test": []}, "lists no image"),
        ({"train": [], "val": [], "test": [["./a.jpg", 0, "cat"], ["a.jpg", 0, "cat"]]}, "remove one"),
        ({"train": [], "val": [], "test": [["a.jpg", 0, " "]]}, "the name of class 0 is empty"),
        ({"train": [], "val": [], "test": [["a.jpg", 0, "Cat"], ["b.jpg", 1, "cat"]]}, "'Cat', 'cat' differ in case"),
    ],
)
def test_a_damaged_split_of_coop_is_an_error(tmp_path, parts, message):
    with pytest.raises(DataError, match=message):
        coop(tmp_path, parts)
