import json
import re
from pathlib import Path

import pytest

from data_prep import frequency
from data_prep.class_names import load_class_list
from data_prep.frequency import NameCounter, name_forms, plural
from data_prep.sample import Sample, Turn
from data_prep.treebank import tokens


@pytest.mark.parametrize(
    ("singular", "many"),
    [
        ("dog", "dogs"),
        ("dish", "dishes"),
        ("fox", "foxes"),
        ("fly", "flies"),
        ("monkey", "monkeys"),
        ("wolf", "wolves"),
        ("mouse", "mice"),
        ("snowman", "snowmen"),
        ("ottoman", "ottomans"),
        ("goldfish", "goldfishes"),
    ],
)
def test_plurals_follow_english(singular, many):
    assert plural(singular) == many


def test_whole_words_count_in_any_case_and_number():
    counter = NameCounter(["bra", "ant", "tiger", "tiger shark"])
    assert counter.find("A zebra, a GIANT panda and antelopes.") == []
    assert counter.find("Ants! The ant's nest, two Tiger  Sharks, a tiger-shark.") == [1, 1, 2, 2, 3, 3]


def test_a_bracketed_explanation_is_left_out_and_punctuation_does_not_matter():
    counter = NameCounter(["kite (bird of prey)", "colt's foot", "hard-leaved pocket orchid", "T-shirt"])
    text = "Kites fly; colt's foot, a hard leaved pocket orchid, t-shirts."
    assert counter.find(text) == [0, 1, 2, 3]


def test_two_classes_of_one_name_get_the_same_count():
    assert NameCounter(["missile", "x", "missile"]).find("Missiles and a missile") == [0, 0, 2, 2]


def test_every_shipped_name_finds_itself():
    for name in ("imagenet", "flowers102", "stanford_cars", "caltech101"):
        names = load_class_list(name).names
        counter = NameCounter(names)
        assert all(index in counter.find(f"This is a {text}.") for index, text in enumerate(names))
        assert all(name_forms(text) for text in names)


def test_the_command_counts_by_source_and_writes_all_counts(tmp_path, write_config, capsys):
    talk = [{"from": "human", "value": "Are there cats?"}, {"from": "gpt", "value": "A cat and a wild dog."}]
    (tmp_path / "a.json").write_text(json.dumps([{"conversations": talk}, {"conversations": talk[:1]}, {}]))
    (tmp_path / "names.txt").write_text("cat\nwild dog\nbird\n")
    config = str(write_config(tmp_path / "a.json", "llava"))
    frequency.main(["--config", config, "--classes", f"{tmp_path}/names.txt", "--output", f"{tmp_path}/counts.json"])
    written = json.loads((tmp_path / "counts.json").read_text())
    assert written["rules"] == {
        "plain": {"pets": {"occurrences": [1, 1, 0], "records": [1, 1, 0]}},
        "inflected": {"pets": {"occurrences": [3, 1, 0], "records": [2, 1, 0]}},
        "official": {"pets": {"occurrences": [1, 1, 0], "records": [1, 1, 0]}},
    }
    out = capsys.readouterr().out
    assert "1 of 3 classes are never named" in out
    lines = out.split("counted by rule inflected\n")[1].splitlines()
    assert lines[1].split() == ["cat", "3", "3"]


def test_an_unknown_list_is_a_user_error(tmp_path, write_config, capsys):
    with pytest.raises(SystemExit) as stop:
        frequency.main(["--config", str(write_config(tmp_path)), "--classes", "imagnet"])
    assert stop.value.code == 2
    assert "no class list 'imagnet'" in capsys.readouterr().err


@pytest.mark.slow
def test_a_text_is_compared_with_few_names_however_many_there_are():
    """A million words take seconds: at each word only the names that begin with it are looked at."""
    counter = NameCounter(load_class_list("imagenet").names)
    text = "The image shows a golden retriever lying on a studio couch near a television and two coffee mugs. " * 100
    compared = 0

    class Counted(dict):
        def get(self, word, none):
            nonlocal compared
            found = super().get(word, none)
            compared += len(found)
            return found

    counter._by_first = Counted(counter._by_first)
    assert len(counter.find(text)) >= 400
    assert compared < 2 * len(text.split())


def test_the_stages_of_llava_are_counted_from_their_json_files_alone(tmp_path, monkeypatch, capsys):
    preset = Path(__file__).resolve().parents[2] / "configs/llava_stages.yaml"
    (tmp_path / "data/llava").mkdir(parents=True)
    turns = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "Two tench."}]
    for name in ("blip_laion_cc_sbu_558k.json", "llava_v1_5_mix665k.json"):
        row = {"id": "0", "image": "coco/train2017/0.jpg", "conversations": turns}
        (tmp_path / "data/llava" / name).write_text(json.dumps([row]))
    monkeypatch.chdir(tmp_path)
    frequency.main(["--config", str(preset), "--classes", "imagenet", "--output", "new/counts.json"])
    found = json.loads(Path("new/counts.json").read_text())["rules"]["plain"]
    assert {stage: counts["occurrences"][0] for stage, counts in found.items()} == {"pretrain": 1, "instruct": 1}


NAMES = ["dog", "wild dog", "tench", "kite (bird of prey)", "lady's slipper", "black-eyed susan", "dog"]
TEXTS = (
    "A dog sits. The Wild Dog barks at a wild dog, and dogs do.",
    "dog and tench",
    "It is a black-eyed susan (flower), a lady's slipper, a kite (bird of prey) there.",
    "the tench's pond",
)


def authors_counts(names: list[str], sentences: list[str]) -> list[int]:
    """data_analysis in other words: joined tokens found in joined tokens, then looked up by the name as it is."""
    found: dict[str, int] = {}
    for sentence in sentences:
        joined = "##".join(tokens(sentence))
        for name in {tuple(tokens(name)) for name in names}:
            if f"##{'##'.join(name)}##" in joined:
                found[" ".join(name)] = found.get(" ".join(name), 0) + 1
    return [found.get(name.lower(), 0) for name in names]


def counted_plainly(name: str, text: str) -> int:
    """Every start at which the name's words follow each other, looked at one by one."""
    words, wanted = re.split(r"[\W_]+", text.lower()), re.split(r"[\W_]+", name.lower().strip("()"))
    return sum(words[start : start + len(wanted)] == wanted for start in range(len(words)))


def test_the_plain_rule_counts_names_as_they_are_written_and_nothing_else():
    record = Sample(id="a", image=None, label=None, label_name=None, turns=tuple(Turn("gpt", text) for text in TEXTS))
    counts = NameCounter(NAMES, "plain").count([record])
    assert counts.occurrences == [sum(counted_plainly(name, text) for text in TEXTS) for name in NAMES]
    assert counts.occurrences == [4, 2, 2, 1, 1, 1, 4]  # "dogs" is none, and each of two wild dogs is one
    kites = ["kite", "kite (bird of prey)"]
    assert NameCounter(kites, "plain").find("Two kites and a kite") == [0]
    assert NameCounter(kites, "inflected").find("Two kites and a kite") == [0, 0, 1, 1]


def test_the_official_rule_counts_what_the_authors_notebooks_count():
    record = Sample(id="a", image=None, label=None, label_name=None, turns=tuple(Turn("gpt", text) for text in TEXTS))
    counts = NameCounter(NAMES, "official").count([record, record])
    expected = [2 * count for count in authors_counts(NAMES, list(TEXTS))]
    assert counts.occurrences == expected
    assert expected == [2, 2, 2, 0, 0, 2, 2]  # once a text, none in brackets, none at a text's ends
    assert NameCounter(NAMES).count([record, record]).occurrences != expected
