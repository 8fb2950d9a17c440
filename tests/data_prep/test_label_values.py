"""Class labels in JSON lines as people have them: recognised, or refused by name."""

import json
import math
import unicodedata

import pytest

from data_prep.class_names import ClassList
from data_prep.readers.label_values import LabelIndex, label_text, refuse_counting_from_one
from data_prep.shards import ShardSet

from .conftest import fails, picture, run

CAFE = unicodedata.normalize("NFC", "café")


@pytest.fixture
def build_labels(tmp_path, write_config):
    """Writes a line for each label, and the command line that builds them."""

    def write(labels, classes=None, limit=0.001, **fields):
        (tmp_path / "1.jpg").write_bytes(picture(1))
        rows = [{"image": "1.jpg", "label": label} | fields for label in labels]
        (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        options = "{label_key: label}"
        if classes is not None:
            (tmp_path / "names.json").write_text(json.dumps(classes))
            options = f"{{label_key: label, class_names: {tmp_path / 'names.json'}}}"
        config = write_config(tmp_path / "a.jsonl", "jsonl", options, max_drop_fraction=limit)
        return ["--config", str(config)]

    return write


def names(tmp_path):
    """(class names, class name of each sample) of the built set."""
    shards = ShardSet.open(tmp_path / "shards" / "pets")
    samples = [shards.sample(number) for number in range(len(shards))]
    assert all(shards.manifest.class_names[sample.label] == sample.label_name for sample in samples)
    return shards.manifest.class_names, [sample.label_name for sample in samples]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("labels", "classes", "expected"),
    [
        (["cat", "cat ", " cat", "dog"], None, ["cat", "cat", "cat", "dog"]),
        ([CAFE, unicodedata.normalize("NFD", CAFE), "tea"], None, [CAFE, CAFE, "tea"]),
        (["wild_dog", "cat"], None, ["wild dog", "cat"]),
        ([["cat"], "dog"], None, ["cat", "dog"]),
        ([3, 3.0, "3", 20], None, ["3", "3", "3", "20"]),
        (["0.0", 1.0, "2"], ["cat", "dog", "ape"], ["cat", "dog", "ape"]),
        ([0, 1], {"0": "cat", "1": "dog"}, ["cat", "dog"]),
        (["n02123045"], {"n02123045": "tabby", "n02085620": "Chihuahua"}, ["tabby"]),
        (["wild_dog", "wild dog"], ["wild_dog", "cat"], None),
        (["wild_dog", "cat"], ["cat", "wild dog"], ["wild dog", "cat"]),
        (["wild_dog"], ["cat", "wild_dog"], ["wild_dog"]),
        ([unicodedata.normalize("NFD", CAFE), "tea "], [CAFE, "tea"], [CAFE, "tea"]),
        (["7", "3"], ["3", "5", "7"], ["7", "3"]),
        (["red/orange", "a: b", "C#"], None, ["red/orange", "a: b", "C#"]),
        (["none", "other"], None, ["none", "other"]),
    ],
)
def test_labels_that_mean_one_class_become_one(build_labels, tmp_path, capsys, labels, classes, expected):
    if expected is None:
        assert "class 'wild dog' is not in the class list" in fails(capsys, *build_labels(labels, classes))
        return
    run(*build_labels(labels, classes))
    assert names(tmp_path)[1] == expected


@pytest.mark.slow
@pytest.mark.parametrize(
    ("label", "kind"),
    [
        (math.nan, "no label"),
        (math.inf, "no label"),
        (None, "no label"),
        ("", "no label"),
        ("  ", "no label"),
        ("nan", "no label"),
        ("N/A", "no label"),
        (True, "label is true or false"),
        (False, "label is true or false"),
        (1.5, "label is a fraction"),
        ([], "label is a list"),
        (["cat", "dog"], "label is a list"),
        ([True], "label is a list"),
        ({"name": "cat"}, "label is a dict"),
    ],
)
@pytest.mark.parametrize("classes", [None, ["cat", "dog"]])
def test_a_value_that_is_no_label_is_a_named_drop_and_no_class(build_labels, tmp_path, capsys, label, kind, classes):
    message = fails(capsys, *build_labels(["cat", label, "dog"], classes))
    assert f"1 x {kind}" in message
    run(*build_labels(["cat", label, "dog"], classes, limit=0.5), "--rebuild")
    assert names(tmp_path) == (("cat", "dog"), ["cat", "dog"])
    assert kind in capsys.readouterr().out


@pytest.mark.parametrize(
    ("labels", "shown"),
    [
        (
            ["Cat", "cat", "cat ", "dog"],
            "the labels 'Cat' (1), 'cat' (2) differ in case, spaces, `_` or Unicode form only",
        ),
        (["wild_dog", "wild dog"], "'wild dog' (1), 'wild_dog' (1)"),
        (["straße", "STRASSE"], "'STRASSE' (1), 'straße' (1)"),
    ],
)
def test_spellings_of_one_name_are_refused_with_the_count_of_each(build_labels, capsys, labels, shown):
    for more in ([], ["--check-only"]):
        assert shown in fails(capsys, *build_labels(labels), *more)


@pytest.mark.parametrize(
    ("labels", "classes", "message"),
    [
        (["Cat", "dog"], ["cat", "dog"], "class 'Cat' is not in the class list; the list has 'cat'"),
        (["ape", "dog"], ["cat", "dog"], "1 x class 'ape' is not in the class list (0000000)"),
        ([1, 2], ["cat", "dog"], "the labels are numbers from 1 to 2 and the list has 2 classes"),
        (["1", "2.0", "2"], ["cat", "dog"], "the labels are numbers from 1 to 2 and the list has 2 classes"),
        ([1, 2], {"0": "cat", "1": "dog"}, "class indexes count from 0"),
        ([0, 5], ["cat", "dog"], "1 x class index 5 is not below 2"),
        ([0, -1], ["cat", "dog"], "class index -1 is not below 2"),
        ([0, 1], ["3", "5"], "class '0' is not in the class list"),
    ],
)
def test_a_label_that_the_class_list_lacks_is_named(build_labels, capsys, labels, classes, message):
    assert message in fails(capsys, *build_labels(labels, classes))


def test_numbers_as_class_names_are_in_the_order_of_numbers_and_said(build_labels, tmp_path, capsys):
    run(*build_labels([10, 2, 9, 10]))
    assert names(tmp_path) == (("2", "9", "10"), ["10", "2", "9", "10"])
    assert "the labels are numbers, which become the class names (2, 9, 10, ...)" in capsys.readouterr().err


def test_numbers_that_a_table_writes_as_fractions_are_numbers_too(build_labels, tmp_path, capsys):
    run(*build_labels(["10.0", "2.0"]))
    assert names(tmp_path)[0] == ("2.0", "10.0")
    assert "the labels are numbers, which become the class names (2.0, 10.0, ...)" in capsys.readouterr().err


def test_a_label_key_that_no_line_has_is_refused_with_the_keys_there_are(tmp_path, write_config, capsys):
    (tmp_path / "a.jsonl").write_text('{"image": "1.jpg", "class": "cat"}\n')
    config = write_config(tmp_path / "a.jsonl", "jsonl", "{label_key: label}")
    assert "has the key 'label'; its keys are image, class" in fails(capsys, "--config", str(config))


def test_an_empty_label_is_an_error_for_its_reader_alone():
    with pytest.raises(ValueError, match="no label: its value is null"):
        label_text(None)
    assert label_text("Guinea  pig") == "Guinea pig"


class Names(tuple):
    """Class names that count how often all of them are looked through."""

    looked = 0

    def __iter__(self):
        type(self).looked += 1
        return super().__iter__()

    def __contains__(self, name):
        type(self).looked += 1
        return super().__contains__(name)


def test_a_million_labels_that_are_numbers_do_not_look_through_all_names_each(monkeypatch):
    monkeypatch.setattr(Names, "looked", 0)
    classes = ClassList(Names(f"class {number}" for number in range(50)))
    index = LabelIndex(classes)
    assert [index.of(number) for number in range(50)] == list(range(50))
    refuse_counting_from_one(range(50), classes, "a.jsonl")
    assert Names.looked < 10
