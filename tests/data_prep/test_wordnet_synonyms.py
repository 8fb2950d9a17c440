"""The tool that takes synonyms from WordNet, on files of WordNet's form made here, and on WordNet where it is."""

import json
from pathlib import Path

import pytest

from configs.errors import DataError
from data_prep import wordnet_synonyms
from data_prep.class_names import SHIPPED
from data_prep.wordnet_synonyms import WordNetNouns, with_synonyms

DATA = """  1 This software and database is being provided to you, the LICENSEE, by
00000100 20 n 03 sea_holly 0 sea_holm 0 Eryngium_maritimum 0 001 @ 12937822 n 0000 | European evergreen eryngo
00000200 05 n 01 sea_holly 1 001 @ 12937822 n 0000 | some animal
"""
INDEX = """  1 This software and database is being provided to you, the LICENSEE, by
sea_holly n 2 1 @ 2 0 00000200 00000100
sea_holm n 1 1 @ 1 0 00000100
"""


@pytest.fixture
def nouns(tmp_path: Path) -> WordNetNouns:
    (tmp_path / "data.noun").write_text(DATA)
    (tmp_path / "index.noun").write_text(INDEX)
    return WordNetNouns.read(tmp_path)


def test_synonyms_are_the_lemmas_of_the_chosen_sense(nouns):
    made = with_synonyms({"names": ["alpine sea holly", "x"], "synsets": ["n00000100", None]}, nouns)
    assert made["synonyms"] == [["sea holly", "sea holm", "Eryngium maritimum"], []]
    assert "Princeton University" in made["_wordnet"]


def test_senses_are_found_with_other_spellings(nouns):
    assert [line[:9] for line in nouns.find("Sea-Hollys")] == ["n00000200", "n00000100"]
    assert nouns.find("holly") == []


def test_an_unknown_synset_and_a_folder_without_wordnet_are_named(nouns, tmp_path):
    with pytest.raises(DataError, match="synset n1 is not in these files"):
        nouns.synonyms(["n1"])
    with pytest.raises(DataError, match=r"has no data\.noun and index\.noun .*wordnet-base"):
        WordNetNouns.read(tmp_path / "nowhere")


def test_a_list_that_differs_is_reported_and_written(nouns, tmp_path, monkeypatch, capsys):
    values = {"_source": "x", "names": ["holly"], "synsets": ["n00000100"], "synonyms": [["tree"]]}
    (tmp_path / "flowers102.json").write_text(json.dumps(values))
    monkeypatch.setattr(wordnet_synonyms, "SHIPPED", tmp_path)
    for options, code, told in (
        ([], 1, "NOT as shipped"),
        (["--write"], 0, "1 have another name"),
        ([], 0, ": as shipped"),
    ):
        with pytest.raises(SystemExit) as ended:
            wordnet_synonyms.main(["--wordnet", str(tmp_path), "flowers102", *options])
        assert (ended.value.code, told in capsys.readouterr().out.replace("; ", ": ")) == (code, True)


def test_the_shipped_lists_are_what_wordnet_says(capsys):
    folder = Path("/usr/share/wordnet")
    if not (folder / "data.noun").is_file():
        pytest.skip("the package wordnet-base is not installed")
    with pytest.raises(SystemExit) as ended:
        wordnet_synonyms.main(["--wordnet", str(folder), "flowers102", "caltech101", "stanford_cars", "cifar10"])
    assert ended.value.code == 0, capsys.readouterr().out


@pytest.mark.parametrize("name", ["flowers102", "caltech101", "stanford_cars", "cifar10"])
def test_a_shipped_list_says_of_every_class_which_synset_it_is(name):
    values = json.loads((SHIPPED / f"{name}.json").read_text())
    assert len(values["names"]) == len(values["synsets"]) == len(values["synonyms"])
    assert [bool(lemmas) for lemmas in values["synonyms"]] == [synset is not None for synset in values["synsets"]]
