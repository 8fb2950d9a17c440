import json
import re
from hashlib import sha256

import pytest

from configs.errors import DataError
from data_prep import class_names
from data_prep.class_names import SHIPPED, load_class_list

# sha256 of the names joined by newlines; refresh with:
# python -c "import hashlib, sys; from data_prep.class_names import load_class_list as l;
#            print(hashlib.sha256('\n'.join(l(sys.argv[1]).names).encode()).hexdigest())" imagenet
LISTS = {
    "imagenet": (1000, "571ae1c583b4be7da87519494c52bf405a46af05d5815627c7a0dee997068b60"),
    "flowers102": (102, "5429e1ef6e0e5aa3db2258257b28da08919bf32046a6854cf5f044ff1e8b79fd"),
    "stanford_cars": (196, "2caca90b5c02b65fcd9542cc2c934aa40c56ded5cb5b72e6e0b8e6b023cf81f9"),
    "caltech101": (100, "32e75ba1ea076239b816d1ba81a4318d9ed75ae2d7d6d2b5a27269286921c1c8"),
    "cifar10": (10, "bb3914949cecedee6d1257f7f5fdb8f43fa3b2c8095fd1763161caf1b873fe59"),
    "imagenet_a": (200, "4b36c17b1b1bba6c18f01853a5cec90f5a342594ef1e9cfd7b64f374db61ccfc"),
    "imagenet_r": (200, "79cac199a91468418c879d1cc78ed06512c6ad13ed7e2cda4d550decccd6f7a1"),
    "dtd": (47, "681d23b9cd3c2edec8ff7ea1fd6f5dd92f3b8d1dfb5a43fd0faee72a116c1130"),
    "eurosat": (10, "ca5667ef0c29b56c47a6608b8cead6a4205026cf5dae8f91a9af26ee6266e161"),
    "fgvc_aircraft": (100, "e1c9e72060e63d526dce032008262a95f573b02e802be7be42f0cb6ccd5b4217"),
    "food101": (101, "513e7f6450e69cc6aaf7d0f16682a557bf44681a982d50f1534ecaf35e7ca7a5"),
    "oxford_pets": (37, "50be1443390f8a02e835fed1dbc90ef03af4f27253569f3f55aede2cb62915be"),
    "sun397": (397, "2c2220ec5edea86f38061eb8cb5693e5bc6b105525fb125fd6b946dc0765adec"),
    "ucf101": (101, "d1f6f7684bab21ef0578d9ad4441196896aaecd909ad9d763677199149eb4342"),
}


# classes with a synset, with synonyms beside their own name, and sha256 of the synonyms; refresh the last with:
# python -c "import hashlib, json, sys; from data_prep.class_names import load_class_list as l;
#            print(hashlib.sha256(json.dumps(l(sys.argv[1]).synonyms).encode()).hexdigest())" imagenet
SYNONYMS = {
    "imagenet": (1000, 573, "5ec8d03d56dc5a11ea860d9fe785b486a0a86fb0b3404869711fb43e35f3c9c5"),
    "flowers102": (76, 57, "1400b522bb99cba074900e4f94a6543d4567c96b990e1c7fd7506f2270ea8ea9"),
    "stanford_cars": (0, 0, "4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945"),
    "caltech101": (91, 55, "ad3ebabefeff073f4fe4814864d18b60542f3c6617206d26779fbc0590595389"),
    "cifar10": (10, 8, "5d36732e1501b9af25eacf2d51d307c33b0e51d9dd317508bbc2362b51297a19"),
    "imagenet_a": (200, 100, "22b322f80ed36aac444bde2b218504b5548eacad3f560c6fba2fbe66c304b8cb"),
    "imagenet_r": (200, 113, "6a62db596aef43d9205d1869c9f605208bd5f5242504b42b145e70d6fe5111eb"),
    "dtd": (0, 0, "4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945"),
    "eurosat": (0, 0, "4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945"),
    "fgvc_aircraft": (0, 0, "4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945"),
    "food101": (0, 0, "4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945"),
    "oxford_pets": (0, 0, "4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945"),
    "sun397": (0, 0, "4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945"),
    "ucf101": (0, 0, "4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945"),
}


def test_every_shipped_list_is_tested():
    assert {file.stem for file in SHIPPED.glob("*.json")} == set(LISTS) == set(SYNONYMS)


@pytest.mark.parametrize("name", SYNONYMS)
def test_the_synonyms_of_a_shipped_list_have_their_counts_and_hash(name):
    classes = load_class_list(name)
    assert len(classes.synonyms) in (0, len(classes.names))
    others = [
        any(other.lower() != name.lower() for other in synonyms)
        for name, synonyms in zip(classes.names, classes.synonyms, strict=bool(classes.synonyms))
    ]
    found = sha256(json.dumps(classes.synonyms).encode()).hexdigest()
    assert (sum(map(bool, classes.synonyms)), sum(others), found) == SYNONYMS[name]


def test_synonyms_are_those_of_the_thing_in_the_picture():
    synonyms = {
        name: dict(zip(load_class_list(name).names, load_class_list(name).synonyms, strict=True))
        for name in ("flowers102", "caltech101")
    }
    assert synonyms["flowers102"]["artichoke"] == ("artichoke", "globe artichoke", "artichoke plant", "Cynara scolymus")
    assert "Strelitzia reginae" in synonyms["flowers102"]["bird of paradise"], "the plant, not the bird"
    assert synonyms["flowers102"]["balloon flower"] == (), "WordNet's is another plant"
    assert synonyms["caltech101"]["crab"] == ("crab",), "neither the louse nor the sign of the zodiac"
    assert "motorcycle" in synonyms["caltech101"]["motorbike"]
    assert synonyms["caltech101"]["garfield"] == (), "not the president"


@pytest.mark.parametrize("name", LISTS)
def test_a_shipped_list_has_its_count_and_its_hash(name):
    names = load_class_list(name).names
    assert (len(names), sha256("\n".join(names).encode()).hexdigest()) == LISTS[name]


@pytest.mark.parametrize(
    ("name", "file"),
    [("imagenet", "imagenet"), ("flowers102", "flowers"), ("stanford_cars", "cars"), ("caltech101", "caltech")],
)
def test_the_shipped_names_are_the_authors(shared_data, name, file):
    authors = json.loads((shared_data / "vlmclassifier" / f"{file}_classes.json").read_text())
    assert list(load_class_list(name).names) == authors


def test_imagenet_has_two_names_twice_and_distinguishes_them_by_index_and_wnid():
    classes = load_class_list("imagenet")
    twice = {name: [i for i, other in enumerate(classes.names) if other == name] for name in ("missile", "sunglasses")}
    assert twice == {"missile": [657, 744], "sunglasses": [836, 837]}
    assert len(set(classes.names)) == 998
    assert classes.by_key["n01440764"] == 0
    assert len(classes.by_key) == len(classes.synonyms) == 1000
    assert classes.synonyms[0] == ("tench", "Tinca tinca")


def test_the_table_of_synsets_reads_as_the_shipped_list(shared_data):
    assert load_class_list(str(shared_data / "imagenet_synsets.tsv")) == load_class_list("imagenet")


@pytest.mark.parametrize(
    ("file", "text", "names", "keys"),
    [
        ("a.json", '["x", "y", "x"]', ("x", "y", "x"), ()),
        ("a.json", '{"n1": "x", "n0": "y"}', ("x", "y"), ("n1", "n0")),
        ("a.json", '{"names": ["x"], "keys": ["n1"], "synonyms": [["x", "z"]]}', ("x",), ("n1",)),
        ("a.txt", "x\ny y\n", ("x", "y y"), ()),
    ],
)
def test_every_form_is_read_in_its_own_order(tmp_path, file, text, names, keys):
    (tmp_path / file).write_text(text)
    classes = load_class_list(str(tmp_path / file))
    assert (classes.names, classes.keys) == (names, keys)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("a.json", "[]", "no class names"),
        ("a.json", '["x", ""]', "name of class 1 is ''"),
        ("a.json", '["x", 3]', "name of class 1 is 3"),
        ("a.json", '{"names": ["x"], "keys": ["a", "b"]}', "1 names but 2 keys"),
        ("a.json", '{"names": ["x", "y"], "keys": ["a", "a"]}', "key 'a' occurs twice"),
        ("a.json", '{"n1": "x", "n2": "y", "n1": "z"}', "not a class list: 'n1' occurs twice"),
        ("a.json", '"x"', "not a class list: it holds a str"),
        ("a.json", "[", "not a class list"),
        ("a.tsv", "index\twnid\tname_in_paper\twordnet_synonyms\n1\tn\tx\tx\n", "does not count 0, 1, 2"),
        ("a.tsv", "wnid\n", "no class names"),
        ("a.txt", "x\n\ny\n", "name of class 1 is ''"),
    ],
)
def test_a_faulty_list_is_refused_with_what_is_wrong(tmp_path, file, text, message):
    (tmp_path / file).write_text(text)
    with pytest.raises(DataError, match=message):
        load_class_list(str(tmp_path / file))


@pytest.mark.parametrize(
    ("name", "text", "names", "keys"),
    [
        ("a.json", '{"cat": 1, "dog": 0}', ("dog", "cat"), ()),
        ("config.json", '{"model_type": "vit", "id2label": {"1": "dog", "0": "cat"}}', ("cat", "dog"), ("0", "1")),
        ("a.json", '[{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}]', ("cat", "dog"), ("7", "3")),
        ("a.json", '{"categories": [{"id": 1, "name": "cat"}], "images": []}', ("cat",), ("1",)),
        ("a.txt", "0 cat\n2 wild dog\n1 ape\n", ("cat", "ape", "wild dog"), ()),
        ("a.txt", "0: cat\n1: dog\n", ("cat", "dog"), ()),
        ("a.txt", "0,cat\n1,dog\n", ("cat", "dog"), ()),
        ("a.txt", "0\tcat\n1\tdog\n", ("cat", "dog"), ()),
        ("a.txt", "['cat', 'dog']", ("cat", "dog"), ()),
        ("a.txt", "2 euro\n5 euro\n10 euro\n", ("2 euro", "5 euro", "10 euro"), ()),
        ("a.txt", "0\n1\n2\n", ("0", "1", "2"), ()),
        ("a.txt", "1\n2\n", ("1", "2"), ()),
        ("a.txt", "3D printer\n7-eleven\n", ("3D printer", "7-eleven"), ()),
        ("a.txt", "cat,\ndog,\nape", ("cat", "dog", "ape"), ()),
        ("a.txt", '"cat",\n"wild dog",\n"ape"\n', ("cat", "wild dog", "ape"), ()),
        ("a.txt", "'cat'\nIt's\n", ("'cat'", "It's"), ()),
        ("a.json", '{"classes": ["cat", "dog"]}', ("cat", "dog"), ()),
    ],
)
def test_further_lists_as_they_circulate(tmp_path, name, text, names, keys):
    (tmp_path / name).write_text(text)
    found = load_class_list(str(tmp_path / name))
    assert (found.names, found.keys) == (names, keys)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "1 cat\n2 dog\n", "its lines begin with the numbers 1 to 2"),
        ("a.csv", "id,name\n0,cat\n", "a .csv file is not read; write one name a line"),
        ("data.yaml", "names:\n- cat\n", "a .yaml file is not read"),
        ("a.json", '{"cat": 0, "dog": 2}', "its keys are numbers and 1 is missing"),
        ("a.json", '{"cat": 0, "dog": 0}', "two names have the number 0"),
        ("a.json", '[{"id": 1, "name": "cat"}, {"id": 1, "name": "dog"}]', "the key '1' occurs twice"),
        ("a.json", '[{"id": 1, "name": "cat"}, {"name": "dog"}]', "2 names but 1 keys"),
        ("a.json", '[["cat"]]', "the name of class 0 is"),
        ("a.txt", "[cat, dog]", "not a class list"),
        ("a.txt", "[cat", "is no Python dict"),
    ],
)
def test_further_lists_that_are_refused_with_the_form_that_is_wanted(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=re.escape(message)):
        load_class_list(str(tmp_path / name))


def test_a_list_in_another_encoding_says_which_one_is_read(tmp_path):
    (tmp_path / "a.txt").write_bytes("cat\ndog\n".encode("utf-16"))
    with pytest.raises(DataError, match="save it as a text in UTF-8"):
        load_class_list(str(tmp_path / "a.txt"))


def test_names_that_differ_in_an_invisible_character_are_alike(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(["cat\u200b", "cat", "dog"]))
    with pytest.raises(DataError, match="are they one class"):
        load_class_list(str(tmp_path / "a.json"))


def test_a_list_is_parsed_once_until_its_file_changes(tmp_path, monkeypatch):
    parsed = []
    parse = class_names._parse
    monkeypatch.setattr(class_names, "_parse", lambda path: (parsed.append(path), parse(path))[1])
    file = tmp_path / "names.txt"
    file.write_text("cat\ndog\n")
    assert load_class_list(str(file)).names == load_class_list(str(file)).names == ("cat", "dog")
    assert parsed == [file]
    file.write_text("cat\nbird\n")
    assert load_class_list(str(file)).names == ("cat", "bird")
