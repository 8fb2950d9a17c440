"""Statistics of question files, counted by hand, and those of the released file."""

import json

import pytest

from configs.errors import DataError
from data_prep.wikiqa.file_statistics import names_its_class, read_rows, statistics, table


def line(question, options, label, classname="crane", image="a.jpg", wiki="w") -> str:
    lettered = "\n".join(f"{letter}. {option}" for letter, option in zip("ABCDE", options, strict=False))
    text = f"{question}\n{lettered}\nChoose."
    return json.dumps({"image": image, "text": text, "label": label, "wiki": wiki, "classname": classname}) + "\n"


LINES = (
    line("Where does this object live?", ["x", "yyy", "z", "w"], "B"),
    line("where does  this object LIVE?", ["x", "y", "z"], "yyyy", classname="jack-o'-lantern", image="b.jpg"),
    line("where does  this object LIVE?", ["x", "yy", "z"], "yy", classname="jack-o'-lantern", image="b.jpg", wiki=" "),
    line("What does a Crane eat?", ["x", "y", "x", "w", "v"], "E", image="c.jpg"),
    "not json\n",
    "\n",
)


def test_every_number_is_the_one_counted_by_hand(tmp_path):
    (tmp_path / "q.jsonl").write_text("".join(LINES))
    rows, unreadable = read_rows(tmp_path / "q.jsonl")
    found = statistics(rows, unreadable)
    assert (found["questions"], found["unreadable_lines"]) == (3, 2), "an answer that is no option counts as unreadable"
    assert (found["classes"], found["images"], found["images_per_class"]) == (2, 3, 1.5)
    assert (found["distinct_questions"], found["distinct_questions_of_a_class"]) == (2, 3)
    assert (found["most_repeats_of_a_question"], found["most_repeats_within_a_class"]) == (2, 1)
    assert found["letters"] == {"A": 0, "B": 2, "C": 0, "D": 0, "E": 1}
    assert found["options"] == {3: 1, 4: 1, 5: 1}
    assert found["by_random_guess"] == pytest.approx((1 / 3 + 1 / 4 + 1 / 5) / 3)
    assert found["by_most_frequent_letter"] == pytest.approx(2 / 3)
    assert found["by_longest_option"] == pytest.approx((1 + 1 + 1 / 5) / 3)
    assert found["names_its_class"] == pytest.approx(1 / 3)
    assert found["says_this_object"] == pytest.approx(2 / 3)
    assert (found["repeated_options"], found["without_reference"]) == (1, 1)
    text = table({"q.jsonl": found})
    assert "right by the most frequent letter" in text
    assert "66.7 %" in text


def test_the_released_file_is_what_its_authors_say_but_for_its_repeats(shared_data):
    found = statistics(*read_rows(shared_data / "vlmclassifier" / "imagewikiqa.jsonl"))
    assert (found["questions"], found["by_random_guess"], found["options"]) == (2000, 0.25, {4: 2000})
    assert (found["images"], found["classes"], found["by_most_frequent_letter"]) == (1961, 527, 0.263)
    assert (found["most_repeats_of_a_question"], found["most_repeats_within_a_class"]) == (15, 3)


@pytest.mark.parametrize(
    ("name", "question", "found"),
    [("guinea pig", "Is a Guinea-Pig wild?", True), ("crane", "cranes?", False), ("...", "...", False),
     ("jack-o'-lantern", "a Jack o lantern?", True), ("mosaïque", "La MOSAÏQUE ?", True)],
)  # fmt: skip
def test_a_class_is_named_by_whole_words_in_any_spelling(name, question, found):
    assert names_its_class(question, ["a", "b"], name) is found


def test_a_file_without_a_question_is_an_error(tmp_path):
    (tmp_path / "q.jsonl").write_text('{"a": 1}\n')
    with pytest.raises(DataError, match="no question in ImageWikiQA's form"):
        read_rows(tmp_path / "q.jsonl")
