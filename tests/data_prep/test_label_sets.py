"""Label sets: every form that they circulate in, the ids they are found by, and what is refused."""

import json
import unicodedata

import pytest

from configs.errors import DataError
from data_prep.class_names import ClassList
from data_prep.label_sets import load_label_sets

CLASSES = ClassList(("tench", "great white shark", "cat"), ("n01440764", "n01484850", "n02121808"))


def load(tmp_path, values, classes=CLASSES):
    file = tmp_path / "labels.json"
    file.write_text(values if isinstance(values, str) else json.dumps(values))
    return load_label_sets(str(file), classes)


def test_a_list_is_in_the_order_of_imagenets_validation_images(tmp_path):
    labels = load(tmp_path, [[0], [], [1, 2, 1], 2])
    assert labels.of("n01440764/ILSVRC2012_val_00000001") == ("tench",)
    assert labels.of("ILSVRC2012_val_00000002.JPEG") == ()
    assert labels.of("val/ILSVRC2012_val_00000003.jpeg") == ("great white shark", "cat")
    assert labels.of("ILSVRC2012_val_00000004") == ("cat",)
    assert labels.of("ILSVRC2012_val_00000005") is None
    assert labels.of("ILSVRC2012_val_00000000") is None
    assert labels.of("cat/1") is None
    assert labels.missing(["ILSVRC2012_val_00000001", "cat/1"]) == ("cat/1",)


@pytest.mark.parametrize(
    "values",
    [
        {"cat/1": ["cat", "tench"], "cat/2": [], "tench/1": "tench"},
        {"cat/1": [2, 0], "cat/2": None, "tench/1": 0},
        {"cat/1": ["n02121808", "n01440764"], "cat/2": [], "tench/1": ["n01440764"]},
        {"cat/1.JPEG": ["cat", "tench"], "cat/2.JPEG": [], "tench/1.JPEG": ["tench"]},
        [{"id": "cat/1", "labels": [2, 0]}, {"id": "cat/2", "labels": []}, {"id": "tench/1", "label": "tench"}],
        '{"id": "cat/1", "labels": [2, 0]}\n{"id": "cat/2", "labels": []}\n{"id": "tench/1", "label": "tench"}\n',
    ],
)
def test_labels_are_names_indices_or_keys_by_the_items_id(tmp_path, values):
    labels = load(tmp_path, values)
    found = [labels.of(item) for item in ("cat/1", "cat/2", "tench/1", "tench/2")]
    assert found == [("cat", "tench"), (), ("tench",), None]


def test_an_id_without_its_folder_fits_one_item_and_is_refused_for_two(tmp_path):
    labels = load(tmp_path, {"photo_7": ["cat"], "1": ["tench"]})
    assert labels.of("cat/photo_7.jpg") == ("cat",)
    assert labels.missing(["cat/photo_7.jpg", "cat/1", "cat/2"]) == ("cat/2",)
    with pytest.raises(DataError, match=r"the id '1' fits 2 items \(cat/1, tench/1\); write the ids with their folder"):
        labels.missing(["cat/1", "tench/1"])


def test_an_item_without_folder_is_not_one_of_two_in_folders(tmp_path):
    labels = load(tmp_path, {"cat/1": ["cat"], "tench/1": ["tench"]})
    assert labels.of("1") is None
    assert labels.of("dog/1") is None


def test_ids_are_found_in_either_unicode_form(tmp_path):
    decomposed = unicodedata.normalize("NFD", "Käfer/é1")
    labels = load(tmp_path, {decomposed: ["cat"]})
    assert labels.of(decomposed) == labels.of(unicodedata.normalize("NFC", decomposed)) == ("cat",)
    assert labels.missing([f"{decomposed}.jpg"]) == ()


def test_a_list_of_more_than_imagenets_validation_images_is_of_other_images(tmp_path):
    with pytest.raises(DataError, match="a list of 50,001 label sets, and ImageNet has 50,000 validation images"):
        load(tmp_path, [[]] * 50_001)


def test_without_a_class_list_labels_are_names(tmp_path):
    assert load(tmp_path, {"a": ["Any name"]}, None).of("a") == ("Any name",)
    with pytest.raises(DataError, match=r"item a: the label 3 is a number .* set protocol.classes"):
        load(tmp_path, {"a": [3]}, None)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"a": ["Tench"]}, "item a: the label 'Tench' is neither a name nor a key"),
        ({"a": [3]}, "item a: the label 3 is not an index of the class list, which has 3 classes"),
        ([[0], [-1]], "validation image 2: the label -1 is not an index"),
        ({"a": [True]}, "the label True is neither a class name nor a whole number"),
        ({"a": [0.5]}, "the label 0.5 is neither"),
        ({"a": [" "]}, "the label ' ' is neither"),
        ({"a": [["cat"]]}, r"the label \['cat'\] is neither"),
        ('{"a": ["cat"], "a": []}', "the id 'a' occurs twice"),
        ([{"id": "a", "labels": []}, {"id": "a", "labels": []}], "the id 'a' occurs twice"),
        ([{"id": "a", "labels": []}, {"name": "b"}], "entry 2 is"),
        ("{", "holds no label sets"),
        ("[]", "it is empty"),
        ("3", "it is a single value"),
    ],
)
def test_what_is_refused_is_named(tmp_path, values, message):
    with pytest.raises(DataError, match=message):
        load(tmp_path, values)


def test_a_missing_file_and_another_encoding_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"no label sets '/nowhere/real\.json'"):
        load_label_sets("/nowhere/real.json", None)
    (tmp_path / "labels.json").write_bytes('{"a": ["größe"]}'.encode("latin-1"))
    with pytest.raises(DataError, match="not a text in UTF-8"):
        load_label_sets(str(tmp_path / "labels.json"), None)
