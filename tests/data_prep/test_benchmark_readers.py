import gzip
import io
import json
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from configs.errors import ConfigError, DataError
from data_prep import build
from data_prep.examine import examine
from data_prep.readers import caltech101, flowers102, imagenet, jsonl, stanford_cars
from data_prep.sample import Drop
from data_prep.shards import ShardSet

savemat = pytest.importorskip("scipy.io").savemat


def authors_rows(shared_data: Path, name: str) -> list[dict]:
    with gzip.open(shared_data / "vlmclassifier" / f"{name}.jsonl.gz", "rt") as file:
        return [json.loads(line) for line in file]


def as_pairs(source, split: str) -> set[tuple[str, str, str]]:
    """(last two parts of the image path, label, split) of all records."""
    return {("/".join(record.image.parts[-2:]), record.label_name, split) for record in source.records}


def flowers_folder(root: Path, labels: list[int], train: list[int], valid: list[int], test: list[int]) -> Path:
    savemat(root / "imagelabels.mat", {"labels": np.array([labels])})
    savemat(root / "setid.mat", {"trnid": np.array([train]), "valid": np.array([valid]), "tstid": np.array([test])})
    return root


def test_flowers_train_is_trnid_and_valid_together_and_test_is_tstid(tmp_path):
    root = flowers_folder(tmp_path, [77, 1, 102, 5], train=[3], valid=[1], test=[4, 2])
    train, test = (list(flowers102.read(root, split=split).records) for split in ("train", "test"))
    assert [(r.id, r.label, r.label_name) for r in train] == [
        ("image_00001", 76, "passion flower"),
        ("image_00003", 101, "blackberry lily"),
    ]
    assert [record.image for record in test] == [root / "jpg/image_00002.jpg", root / "jpg/image_00004.jpg"]
    assert [record.id for record in flowers102.read(root, split="validation").records] == ["image_00001"]


def test_the_flowers_of_the_authors_list_come_out_with_their_labels_and_splits(shared_data, tmp_path):
    rows = authors_rows(shared_data, "flowers")
    names = flowers102.read.__globals__["load_class_list"]("flowers102").names
    numbers = {split: [i for i, row in enumerate(rows, 1) if row["split"] == split] for split in ("train", "test")}
    labels = [names.index(row["label"]) + 1 for row in rows]
    root = flowers_folder(tmp_path, labels, numbers["train"][::2], numbers["train"][1::2], numbers["test"])
    theirs = {("/".join(row["image"].split("/")[-2:]), row["label"], row["split"]) for row in rows}
    ours = as_pairs(flowers102.read(root, split="train"), "train") | as_pairs(
        flowers102.read(root, split="test"), "test"
    )
    assert ours == theirs
    assert {split: len(n) for split, n in numbers.items()} == {"train": 2040, "test": 6149}


def cars_annotations(rows: list[tuple[str, int]]) -> dict:
    kinds = [("bbox_x1", object), ("class", object), ("fname", object)]
    return {"annotations": np.array([(1, label, name) for name, label in rows], dtype=kinds)}


def test_cars_take_their_classes_from_the_annotations(shared_data, tmp_path):
    rows = authors_rows(shared_data, "cars")
    names = stanford_cars.read.__globals__["load_class_list"]("stanford_cars").names
    (tmp_path / "devkit").mkdir()
    for split, file in (("train", "devkit/cars_train_annos.mat"), ("test", "cars_test_annos_withlabels.mat")):
        mine = [(row["image"].split("/")[-1], names.index(row["label"]) + 1) for row in rows if row["split"] == split]
        savemat(tmp_path / file, cars_annotations(mine))
    ours = [stanford_cars.read(tmp_path, split=split) for split in ("train", "test")]
    assert [len(source.records) for source in ours] == [8144, 8041]
    assert as_pairs(ours[0], "train") | as_pairs(ours[1], "test") == {
        ("/".join(row["image"].split("/")[-2:]), row["label"], row["split"]) for row in rows
    }


def test_car_annotations_without_classes_say_which_file_has_them(tmp_path):
    savemat(tmp_path / "cars_test_annos_withlabels.mat", {"annotations": np.array([(1,)], dtype=[("fname", object)])})
    with pytest.raises(DataError, match="has no classes"):
        stanford_cars.read(tmp_path, split="test")
    with pytest.raises(DataError, match=r"cars_train_annos\.mat is missing"):
        stanford_cars.read(tmp_path, split="train")


@pytest.mark.parametrize("reader", [flowers102.read, stanford_cars.read])
def test_an_unknown_split_lists_the_known_ones(reader, tmp_path):
    with pytest.raises(ConfigError, match="split is 'val'; choose one of: train, test"):
        reader(tmp_path, split="val")


def test_caltechs_101_folders_become_100_names_by_the_authors_list(shared_data, tmp_path):
    rows = authors_rows(shared_data, "caltech")
    file = shared_data / "vlmclassifier/caltech.jsonl.gz"
    seen = set()
    for split in ("train", "test"):
        source = caltech101.read(tmp_path, split=split, split_file=str(file))
        assert len(source.class_names) == 100
        seen |= as_pairs(source, split)
        assert len({record.id for record in source.records}) == len(source.records)
    assert seen == {("/".join(row["image"].split("/")[-2:]), row["label"], row["split"]) for row in rows}
    assert len({name.split("/")[0] for name, _, _ in seen}) == 101


def test_caltech_without_a_split_takes_every_folder_but_the_background(tmp_path):
    for folder in ("BACKGROUND_Google", "Faces", "Faces_easy", "ceiling_fan", "not_a_class"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "image_0001.jpg").write_bytes(b"x")
        (tmp_path / "101_ObjectCategories" / folder).parent.mkdir(exist_ok=True)
        (tmp_path / folder).rename(tmp_path / "101_ObjectCategories" / folder)
    records = list(caltech101.read(tmp_path).records)
    assert records == list(caltech101.read(tmp_path / "101_ObjectCategories").records)
    assert [(record.id, record.label_name) for record in records[:3]] == [
        ("Faces/image_0001", "face"),
        ("Faces_easy/image_0001", "face"),
        ("ceiling_fan/image_0001", "ceiling fan"),
    ]
    assert records[3].label == 100  # dropped by the build as out of range
    with pytest.raises(ConfigError, match="give both or neither"):
        caltech101.read(tmp_path, split="train")


@pytest.fixture
def imagenet_sample(shared_data, tmp_path) -> Path:
    with tarfile.open(shared_data / "imagenet_sample.tar") as tar:
        members = [m for m in tar if m.name.split("/")[2] < "n01641577"]
        tar.extractall(tmp_path, members, filter="data")
    return tmp_path / "imagenet/train"


def tar_of_tars(folder: Path, file: Path) -> Path:
    with tarfile.open(file, "w") as outer:
        for class_folder in sorted(folder.iterdir(), reverse=True):  # the order in the tar must not matter
            buffer = io.BytesIO()
            with tarfile.open(fileobj=buffer, mode="w") as inner:
                for image in sorted(class_folder.iterdir()):
                    inner.add(image, image.name)
            info = tarfile.TarInfo(f"{class_folder.name}.tar")
            info.size = buffer.tell()
            buffer.seek(0)
            outer.addfile(info, buffer)
    return file


def test_the_tar_of_tars_gives_the_same_shards_as_the_unpacked_folders(imagenet_sample, write_config, tmp_path):
    tar = tar_of_tars(imagenet_sample, tmp_path / "ILSVRC2012_img_train.tar")
    build.main(["--config", str(write_config(imagenet_sample, options="{class_names: imagenet}"))])
    build.main(["--config", str(write_config(tar, "imagenet_train_tar", shards=tmp_path / "tarred"))])
    folders, tarred = (ShardSet.open(tmp_path / name / "pets") for name in ("shards", "tarred"))
    assert len(folders) > 4
    assert tarred.fingerprint == folders.fingerprint


def test_half_a_download_of_the_tar_of_tars_is_an_error(imagenet_sample, tmp_path):
    tar = tar_of_tars(imagenet_sample, tmp_path / "train.tar")
    tar.write_bytes(tar.read_bytes()[: tar.stat().st_size // 2])
    with pytest.raises(DataError, match="is the download complete"):
        [record.image() for record in imagenet.read_train_tar(tar).records]


@pytest.fixture
def small_tar_of_tars(tmp_path, picture) -> Path:
    """Three classes of three pictures each; every inner tar has 10,240 bytes, its members 1,024 each."""
    for wnid in ("n01440764", "n01443537", "n01484850"):
        (tmp_path / "train" / wnid).mkdir(parents=True)
        for number in range(3):
            (tmp_path / "train" / wnid / f"{wnid}_{number}.JPEG").write_bytes(picture(number, (8, 8), "L"))
    tar = tar_of_tars(tmp_path / "train", tmp_path / "train.tar")
    assert len(list(imagenet.read_train_tar(tar).records)) == 9
    return tar


def cut(at: int):
    return lambda data: data[:at]


def flipped(at: int):
    return lambda data: data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def zeroed(at: int):
    return lambda data: data[:at] + bytes(512) + data[at + 512 :]


SECOND = 512 + 10_240  # where the header of the second class's tar begins


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(cut(SECOND), id="cut between two classes"),
        pytest.param(cut(SECOND + 100), id="cut in the header of a class"),
        pytest.param(cut(SECOND + 3000), id="cut in the tar of a class"),
        pytest.param(flipped(SECOND + 2), id="a bit of a class's header"),
        pytest.param(zeroed(SECOND), id="the header of a class zeroed"),
        pytest.param(flipped(SECOND + 512 + 1024 + 2), id="a bit of an image's header"),
        pytest.param(zeroed(SECOND + 512 + 1024), id="the header of an image zeroed"),
    ],
)
def test_a_damaged_tar_of_tars_is_an_error_and_never_fewer_images(damage, small_tar_of_tars):
    small_tar_of_tars.write_bytes(damage(small_tar_of_tars.read_bytes()))
    with pytest.raises(DataError, match=r"train\.tar.* (is damaged|is cut short|is not a tar of tars)"):
        imagenet.read_train_tar(small_tar_of_tars)


def test_validation_labels_come_from_any_of_three_ground_truths(tmp_path):
    (tmp_path / "truth.txt").write_text("490\n361\n")
    (tmp_path / "caffe.txt").write_text("ILSVRC2012_val_00000001.JPEG 65\nILSVRC2012_val_00000002.JPEG 970\n")
    (tmp_path / "kaggle.csv").write_text(
        "ImageId,PredictionString\n"
        "ILSVRC2012_val_00000002,n09193705 1 2 3 4 \n"
        "ILSVRC2012_val_00000001,n01751748 1 2 3 4 \n"
    )
    kinds = [("ILSVRC2012_ID", object), ("WNID", object)]
    savemat(tmp_path / "meta.mat", {"synsets": np.array([(490, "n01751748"), (361, "n09193705")], dtype=kinds)})
    read = {
        truth: [
            (record.id, record.label, record.label_name)
            for record in imagenet.read_validation(tmp_path, ground_truth=str(tmp_path / truth), **options).records
        ]
        for truth, options in (
            ("truth.txt", {"synsets": str(tmp_path / "meta.mat")}),
            ("caffe.txt", {}),
            ("kaggle.csv", {}),
        )
    }
    expected = [("ILSVRC2012_val_00000001", 65, "sea snake"), ("ILSVRC2012_val_00000002", 970, "mountain")]
    assert read == dict.fromkeys(read, expected)


def test_a_flat_validation_folder_builds_with_the_labels_of_its_ground_truth(imagenet_sample, write_config, tmp_path):
    flat, labels = tmp_path / "val", []
    flat.mkdir()
    keys = imagenet.load_class_list("imagenet").by_key
    for number, image in enumerate(sorted(imagenet_sample.glob("*/*.JPEG"), reverse=True), start=1):
        image.rename(flat / f"ILSVRC2012_val_{number:08d}.JPEG")
        labels.append(keys[image.parent.name])
    names = sorted(file.name for file in flat.iterdir())
    truth = tmp_path / "val.txt"
    truth.write_text("".join(f"{name} {label}\n" for name, label in zip(names, labels, strict=True)))
    build.main(["--config", str(write_config(flat, "imagenet_validation", f"{{ground_truth: {truth}}}"))])
    assert ShardSet.open(tmp_path / "shards/pets").labels.tolist() == labels


def test_images_and_ground_truths_that_do_not_match_are_named_drops(tmp_path, picture):
    for number in (1, 3):
        (tmp_path / f"ILSVRC2012_val_{number:08d}.JPEG").write_bytes(picture(number))
    (tmp_path / "truth.txt").write_text("ILSVRC2012_val_00000001.JPEG 65\nILSVRC2012_val_00000002.JPEG 970\n")
    records = list(imagenet.read_validation(tmp_path, ground_truth=str(tmp_path / "truth.txt")).records)
    found = [examine(record, "val", 1000, decode=True) for record in records]
    assert [(f.id, f.reason.partition(":")[0]) if isinstance(f, Drop) else f.label for f in found] == [
        65,
        ("ILSVRC2012_val_00000002", "missing file"),
        ("ILSVRC2012_val_00000003", "no ground truth"),
    ]


@pytest.mark.parametrize(
    "truth, message",
    [
        ("a.JPEG 65\nb.JPEG 1000\n", "gives b the label 1000; labels are 0 to 999, not from 1"),
        ("a.JPEG 65\nb.JPEG -1\n", "gives b the label -1"),
        ("a.JPEG 65\na.JPEG 66\n", "names the image a twice"),
        ("\n", "is empty"),
    ],
)
def test_a_ground_truth_of_something_else_is_refused(truth, message, tmp_path):
    (tmp_path / "truth.txt").write_text(truth)
    with pytest.raises(DataError, match=message):
        imagenet.read_validation(tmp_path, ground_truth=str(tmp_path / "truth.txt"))


def test_devkit_numbers_without_the_synsets_are_refused(tmp_path):
    (tmp_path / "truth.txt").write_text("490\n361\n")
    with pytest.raises(DataError, match=r"not in the order of wnids; set synsets to meta\.mat"):
        imagenet.read_validation(tmp_path, ground_truth=str(tmp_path / "truth.txt"))


def write_lines(path: Path, *rows: dict) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_lines_with_labels_become_classes_in_sorted_order(tmp_path):
    file = write_lines(
        tmp_path / "a.jsonl",
        {"image": "1.jpg", "label": "rose", "split": "train"},
        {"image": "2.jpg", "label": "daisy", "split": "test"},
        {"image": "3.jpg", "label": "daisy", "split": "train"},
    )
    source = jsonl.read(file, label_key="label", split="train")
    assert source.class_names == ("daisy", "rose")
    assert [(r.id, r.label, r.image) for r in source.records] == [
        ("0000000", 1, tmp_path / "1.jpg"),
        ("0000002", 0, tmp_path / "3.jpg"),
    ]
    with pytest.raises(DataError, match="no line of split 'val'"):
        jsonl.read(file, label_key="label", split="val")


def test_a_name_that_stands_twice_needs_its_index(tmp_path, shared_data):
    file = write_lines(tmp_path / "a.jsonl", {"image": "1.jpg", "label": "missile", "label_idx": 744})
    (drop,) = jsonl.read(file, label_key="label", class_names="imagenet").records
    assert isinstance(drop, Drop)
    assert "'missile' stands 2 times among the classes" in drop.reason
    (sample,) = jsonl.read(file, label_key="label", index_key="label_idx", class_names="imagenet").records
    assert sample.label == 744
    write_lines(file, {"image": "1.jpg", "label": "missile", "label_idx": 743})
    (drop,) = jsonl.read(file, label_key="label", index_key="label_idx", class_names="imagenet").records
    assert "class 743 is not 'missile'" in drop.reason
    small = jsonl.read(
        shared_data / "vlmclassifier/imagenet_small.jsonl",
        label_key="label",
        index_key="label_idx",
        class_names="imagenet",
    )
    assert Counter(record.label_name for record in small.records) == {"tench": 10}


def test_question_files_and_captions_are_told_by_their_fields(tmp_path):
    row = {"question_id": 7, "image": "1.jpg", "text": "Is there a cat?", "label": "yes"}
    file = write_lines(tmp_path / "pope.jsonl", row)
    (sample,) = jsonl.read(file, question_key="text", answer_key="label").records
    assert [turn.text for turn in sample.turns] == ["<image>\nIs there a cat?", "yes"]
    assert sample.meta == {"question_id": 7, "label": "yes"}
    (unanswered,) = jsonl.read(file, question_key="text").records
    assert len(unanswered.turns) == 1
    (caption,) = jsonl.read(file, question="Describe it.", answer_key="text", image_root="/images").records
    assert [turn.text for turn in caption.turns] == ["<image>\nDescribe it.", "Is there a cat?"]
    assert caption.image == Path("/images/1.jpg")
    with pytest.raises(ConfigError, match="exactly one of"):
        jsonl.read(file)


def test_a_line_without_the_field_is_a_drop_and_a_broken_file_an_error(tmp_path):
    file = write_lines(tmp_path / "a.jsonl", {"image": "1.jpg"}, {"image": 3, "text": "x"})
    assert all(isinstance(record, Drop) for record in jsonl.read(file, question_key="text").records)
    file.write_text('{"a": 1}\n{"a"\n')
    with pytest.raises(DataError, match="after 1 good lines"):
        jsonl.read(file, question_key="text")
    file.write_text("[]\n")
    with pytest.raises(DataError, match="does not hold a list of JSON objects"):
        jsonl.read(file, question_key="text")


def test_popes_json_files_hold_lines(tmp_path):
    row = {"question_id": 1, "image": "COCO_val2014_000000310196.jpg", "text": "Is there a snowboard?", "label": "yes"}
    file = write_lines(tmp_path / "coco_pope_random.json", row, row | {"label": "no"})
    answers = [sample.turns[1].text for sample in jsonl.read(file, question_key="text", answer_key="label").records]
    assert answers == ["yes", "no"]


def test_a_list_that_stands_within_an_object_is_named_with_the_way_out(tmp_path):
    (tmp_path / "TextVQA_0.5.1_val.json").write_text('{"dataset_type": "val", "data": [{"question": "a?"}]}')
    with pytest.raises(DataError, match="its list stands under 'data': write that list to a file of its own"):
        jsonl.read(tmp_path / "TextVQA_0.5.1_val.json", question_key="question")


def test_null_and_lists_are_no_texts_and_no_class(tmp_path):
    rows = [{"image": "1.jpg", "text": value} for value in (None, ["a", "b"], {"a": 1}, "cat", 7)]
    file = write_lines(tmp_path / "a.jsonl", *rows)
    for options in ({"question": "Describe it.", "answer_key": "text"}, {"question_key": "text"}):
        made = [record for record in jsonl.read(file, **options).records if not isinstance(record, Drop)]
        assert [record.turns[-1].text.removeprefix("<image>\n") for record in made] == ["cat", "7"]
    write_lines(file, {"image": "1.jpg", "text": None}, {"image": "2.jpg", "text": "cat"}, {"text": 7})
    source = jsonl.read(file, label_key="text")
    assert source.class_names == ("7", "cat")
    assert [isinstance(record, Drop) for record in source.records] == [True, False, False]


def test_line_separators_within_a_text_do_not_end_its_line(tmp_path):
    text = "one\u2028two\x85three\u2029"
    file = tmp_path / "a.jsonl"
    file.write_text(json.dumps({"image": "1.jpg", "text": text}, ensure_ascii=False) + "\n", encoding="utf-8")
    (sample,) = jsonl.read(file, question="Describe it.", answer_key="text").records
    assert sample.turns[1].text == text


@pytest.mark.parametrize(
    "name, data, message",
    [
        ("a.jsonl", b'{"text": "caf\xe9"}\n', "is not UTF-8"),
        ("a.jsonl.gz", gzip.compress(b'{"text": "a"}\n')[:-9], "is damaged or no gzip file"),
        ("a.jsonl.gz", b'{"text": "a"}\n', "is damaged or no gzip file"),
    ],
    ids=["latin-1", "cut", "not packed"],  # else the time within the gzip data, another in each test process
)
def test_a_file_that_is_no_text_is_an_error_in_one_line(name, data, message, tmp_path):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=message):
        jsonl.read(tmp_path / name, question_key="text")
    with pytest.raises(DataError, match="no file"):
        jsonl.read(tmp_path, question_key="text")
