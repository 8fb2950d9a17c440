"""Flowers102, Stanford Cars and Caltech101, compared with the authors' lists where these are at hand."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from configs.errors import ConfigError, DataError
from data_prep.class_names import load_class_list
from data_prep.readers import caltech101, flowers102, stanford_cars

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
    names = load_class_list("flowers102").names
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


@pytest.mark.slow
def test_cars_take_their_classes_from_the_annotations(shared_data, tmp_path):
    rows = authors_rows(shared_data, "cars")
    names = load_class_list("stanford_cars").names
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


def test_a_split_list_of_another_form_says_which_field_is_missing(tmp_path):
    (tmp_path / "split.jsonl").write_text('{"image": "a/b.jpg", "set": "train"}\n')
    with pytest.raises(DataError, match="has a line without 'split'; each has image, label and split"):
        caltech101.read(tmp_path, split="train", split_file=str(tmp_path / "split.jsonl"))


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
