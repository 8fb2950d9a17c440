"""Class folders and class lists as they circulate: recognised, or refused with the form that is wanted."""

import json
import unicodedata

import pytest

from configs.errors import DataError
from data_prep.class_names import alike_names, load_class_list
from data_prep.readers.image_folder import read
from data_prep.sample import Sample

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven")


@pytest.fixture
def folders(tmp_path, picture):
    def make(*names):
        for name in names:
            (tmp_path / "data" / name).mkdir(parents=True)
            (tmp_path / "data" / name / "a.jpg").write_bytes(picture())
        return tmp_path / "data"

    return make


def names_of(source):
    return {sample.image.parent.name: sample.label_name for sample in source.records if isinstance(sample, Sample)}


@pytest.mark.parametrize("form", ["names.txt", "names.json", "id2label.json"])
def test_folders_named_by_number_meet_a_list_in_the_order_of_numbers(form, folders, tmp_path):
    root = folders(*map(str, range(12)))
    content = {
        "names.txt": "\n".join(WORDS) + "\n\n",
        "names.json": json.dumps(WORDS),
        "id2label.json": json.dumps({str(k): WORDS[k] for k in sorted(range(12), key=str)}),
    }[form]
    (tmp_path / form).write_text(content)
    by = "key" if form == "id2label.json" else "order"
    source = read(root, class_names=str(tmp_path / form), names_by=by)
    assert names_of(source) == {str(k): WORDS[k] for k in range(12)}
    assert source.class_names == WORDS


def test_folders_with_a_number_in_their_name_are_refused_by_order_where_text_order_is_another(folders, tmp_path):
    root = folders(*(f"class{k}" for k in range(12)))
    (tmp_path / "names.txt").write_text("\n".join(WORDS))
    with pytest.raises(DataError, match="leading zeros"):
        read(root, class_names=str(tmp_path / "names.txt"), names_by="order")


def test_numbers_with_leading_zeros_are_taken_in_order(folders, tmp_path):
    root = folders(*(f"class{k:02d}" for k in range(12)))
    (tmp_path / "names.txt").write_text("\n".join(WORDS))
    source = read(root, class_names=str(tmp_path / "names.txt"), names_by="order")
    assert names_of(source)["class11"] == "eleven"


def test_a_path_one_level_too_high_is_refused_with_the_path_to_give(folders):
    root = folders("train/cat", "train/dog", "val/cat", "val/dog")
    with pytest.raises(DataError, match=r"splits, not classes.*the path of the classes is .*train"):
        read(root)


def test_classes_that_are_called_like_splits_are_classes(folders):
    assert read(folders("test", "train")).class_names == ("test", "train")


@pytest.mark.parametrize("pair", [("training_set", "test_set"), ("fold1", "fold2"), ("Train-images", "Val-images")])
def test_splits_with_longer_names_are_splits_too(pair, folders):
    root = folders(*(f"{split}/{name}" for split in pair for name in ("cat", "dog")))
    with pytest.raises(DataError, match="are splits, not classes"):
        read(root)


def test_folders_that_begin_with_numbers_are_taken_as_named_and_it_is_said(folders):
    source = read(folders("001.Black_footed_Albatross", "002.Laysan_Albatross", "__pycache__"))
    assert source.class_names == ("001.Black footed Albatross", "002.Laysan Albatross")
    assert "give class_names, a JSON file of {folder: name}" in source.notes[0]


def test_a_list_without_keys_says_how_folders_meet_it(folders, tmp_path):
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    with pytest.raises(DataError, match="a list without keys; names_by: order"):
        read(folders("0", "1"), class_names=str(tmp_path / "names.txt"))


def test_one_class_in_two_unicode_forms_has_one_name(folders):
    root = folders(unicodedata.normalize("NFD", "café"), "tea")
    assert read(root).class_names == (unicodedata.normalize("NFC", "café"), "tea")


@pytest.mark.parametrize(
    "pair", [("Cat", "cat"), ("fire engine", "fire_engine"), ("café", unicodedata.normalize("NFD", "café"))]
)
def test_folders_that_differ_in_case_space_or_unicode_form_only_are_refused(pair, folders):
    with pytest.raises(DataError, match="one class"):
        read(folders(*pair))


@pytest.mark.parametrize("suffix", ["", "_tench"])
def test_folders_named_by_wordnet_ids_take_imagenets_names_and_it_is_said(suffix, folders):
    source = read(folders(f"n01440764{suffix}", "n01443537"))
    assert source.class_names == ("tench", "goldfish")
    assert "named by WordNet ids" in source.notes[0]


def test_wordnet_ids_that_imagenet_does_not_know_are_refused_by_name(folders):
    root = folders("n01440764", "n99999999")
    with pytest.raises(DataError, match="n99999999"):
        read(root)
    assert read(root, names_by="folder").class_names == ("n01440764", "n99999999")


LISTS = {
    "ids_and_names.txt": "n01440764 tench, Tinca tinca\nn01443537 goldfish, Carassius auratus\n",
    "dict.txt": "{0: 'tench, Tinca tinca',\n 1: 'goldfish, Carassius auratus'}\n",
    "keras.json": json.dumps({"1": ["n01443537", "goldfish"], "0": ["n01440764", "tench"]}),
    "bom.txt": "\ufefftench\r\ngoldfish\r\n",
    "blank_end.txt": "tench\ngoldfish\n\n\n",
    "bom.json": "\ufeff" + json.dumps(["tench", "goldfish"]),
}


@pytest.mark.parametrize("name", LISTS)
def test_a_list_as_it_circulates_gives_its_names(name, tmp_path):
    (tmp_path / name).write_text(LISTS[name], encoding="utf-8")
    classes = load_class_list(str(tmp_path / name))
    assert classes.names == ("tench", "goldfish")
    if name in ("ids_and_names.txt", "keras.json"):
        assert classes.keys == ("n01440764", "n01443537")
    if name in ("ids_and_names.txt", "dict.txt"):
        assert classes.synonyms[0] == ("tench", "Tinca tinca")


REFUSED = {
    "synset_labels.txt": ("n01440764\nn01443537\n", "WordNet ids without names"),
    "mixed.txt": ("n01440764 tench\ngoldfish\n", "does not"),
    "gap.json": ('{"0": "tench", "2": "goldfish"}', "1 is missing"),
    "blank_inside.txt": ("tench\n\ngoldfish\n", "class 1"),
    "three_spellings.txt": ("Cat\ncat\nCAT\n", "one spelling"),
    "broken_dict.txt": ("{0: 'tench', \n", "no Python dict"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_list_in_doubt_is_refused_with_the_form_that_is_wanted(name, tmp_path):
    content, words = REFUSED[name]
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=words):
        load_class_list(str(tmp_path / name))


def test_a_name_that_two_classes_share_is_no_second_spelling():
    assert alike_names(["missile", "missile", "crane"]) == []
    assert alike_names(["Cat", "dog", "cat "]) == ["Cat", "cat "]
