"""Trees of names: WordNet's files, JSON files, the shipped tree, and what is refused."""

import json

import pytest

from configs.errors import DataError
from data_prep.class_names import load_class_list
from data_prep.class_tree import load_class_tree, synsets_of_classes

DATA = """  1 a licence comes first
00000001 03 n 01 animal 0 000 | a living organism
00000002 05 n 02 dog 0 domestic_dog 0 002 @ 00000001 n 0000 ~ 00000003 n 0000 | barks
00000003 05 n 01 beagle 0 001 @ 00000002 n 0000 | small
00000004 18 n 01 Snoopy 0 001 @i 00000003 n 0000 | a beagle
00000005 06 n 01 crane 0 000 | a machine
00000006 05 n 01 crane 1 001 @ 00000001 n 0000 | a bird
"""
INDEX = """  1 a licence comes first
animal n 1 1 ~ 1 0 00000001
dog n 1 1 @ 1 0 00000002
domestic_dog n 1 1 @ 1 0 00000002
beagle n 1 1 @ 1 0 00000003
snoopy n 1 1 @ 1 0 00000004
crane n 2 1 @ 2 0 00000005 00000006
"""


@pytest.fixture
def wordnet(tmp_path):
    (tmp_path / "data.noun").write_text(DATA)
    (tmp_path / "index.noun").write_text(INDEX)
    return load_class_tree(str(tmp_path))


def test_wordnets_hypernyms_are_parents_and_a_name_has_all_its_senses(wordnet):
    assert wordnet.wordnet
    assert wordnet.above(wordnet.nodes("Snoopy")) == {"n00000003": 1, "n00000002": 2, "n00000001": 3}
    assert wordnet.below(["n00000002"]) == {"n00000003": 1, "n00000004": 2}
    assert wordnet.nodes("crane") == ("n00000005", "n00000006")
    assert wordnet.nodes("Domestic-Dog") == ("n00000002",)
    assert wordnet.nodes("unicorn") == ()


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        (
            "data.noun",
            DATA[: DATA.index("00000003 n 0000 |")],
            r"data.noun .* damaged, at the line '00000002 05 n 02 dog",
        ),
        ("data.noun", "version https://git-lfs.github.com/spec/v1\n", "data.noun is no file of WordNet"),
        ("data.noun", DATA[: DATA.index("00000006")], "has no synset n00000006, .* complete and of one"),
        ("data.noun", "", "has no synset n00000001"),
        ("index.noun", INDEX + "\n\n", "index.noun is no file of WordNet"),
        ("index.noun", INDEX + "elk n 1 0 1 0 00000009", "has no synset n00000009"),
    ],
)
def test_damaged_files_of_wordnet_are_one_error(tmp_path, wordnet, file, text, message):
    (tmp_path / file).write_text(text)
    with pytest.raises(DataError, match=message):
        load_class_tree(str(tmp_path))


def test_a_json_file_has_names_as_nodes(tmp_path):
    file = tmp_path / "tree.json"
    file.write_text(json.dumps({"beagle": ["hound", "pet"], "hound": "dog", "dog": [], "pet": []}))
    tree = load_class_tree(str(file))
    assert tree.above(["beagle"]) == {"hound": 1, "pet": 1, "dog": 2}
    assert tree.below(["dog"]) == {"hound": 1, "beagle": 2}
    file.write_text(json.dumps({"automobile, car": ["vehicle"], "vehicle": []}))
    assert load_class_tree(str(file)).nodes("Car") == ("automobile",)


def test_the_shipped_tree_has_every_class_of_cifar10():
    tree = load_class_tree("cifar10")
    assert all(tree.nodes(name) for name in load_class_list("cifar10").names)
    assert {"dog", "canine", "animal"} < tree.above(["beagle"]).keys()
    assert synsets_of_classes("cifar10")["dog"] == "n02084071"
    assert "missile" not in synsets_of_classes("imagenet")  # two classes have this name
    assert synsets_of_classes("imagenet")["tench"] == "n01440764"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ("{", "is no tree"),
        ("[]", "not an object"),
        ("{}", "not an object"),
        ('{"a": 3}', "the parents of 'a' are 3"),
        ('{"a": [1]}', r"the parents of 'a' are \[1\]"),
        ('{"a": ["b"]}', "the parent 'b' of 'a' is no entry"),
        ('{"a": ["b"], "b": ["a"]}', "'a' is above itself"),
        ('{"a": ["a"]}', "'a' is above itself"),
        ('{" ": []}', "a name is empty"),
        ('{"a, ": []}', "a name is empty"),
        ('{"a": [], "a, b": []}', "'a' occurs twice"),
        ('{"a": [], "b": ["a"], "b": []}', "'b' occurs twice"),
        ('{"\\u00e9": [], "e\\u0301": []}', "'\u00e9' occurs twice"),
    ],
)
def test_what_is_no_tree_is_refused(tmp_path, values, message):
    (tmp_path / "tree.json").write_text(values)
    with pytest.raises(DataError, match=message):
        load_class_tree(str(tmp_path / "tree.json"))


def test_a_source_that_is_not_there_and_a_folder_without_wordnet_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"nor shipped \(cifar10"):
        load_class_tree("unknown")
    with pytest.raises(DataError, match=r"no data\.noun"):
        load_class_tree(str(tmp_path))
