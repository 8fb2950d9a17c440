"""JSON lines told by their fields."""

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest

from configs.errors import ConfigError, DataError
from data_prep.readers import jsonl
from data_prep.sample import Drop


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


def test_a_name_that_occurs_twice_needs_its_index(tmp_path, shared_data):
    file = write_lines(tmp_path / "a.jsonl", {"image": "1.jpg", "label": "missile", "label_idx": 744})
    (drop,) = jsonl.read(file, label_key="label", class_names="imagenet").records
    assert isinstance(drop, Drop)
    assert "'missile' occurs 2 times among the classes" in drop.reason
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


def test_question_files_and_captions_are_recognised_by_their_fields(tmp_path):
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
    file.write_text("[1, 2]\n")
    with pytest.raises(DataError, match="does not hold a list of JSON objects"):
        jsonl.read(file, question_key="text")


def test_popes_json_files_hold_lines(tmp_path):
    row = {"question_id": 1, "image": "COCO_val2014_000000310196.jpg", "text": "Is there a snowboard?", "label": "yes"}
    file = write_lines(tmp_path / "coco_pope_random.json", row, row | {"label": "no"})
    answers = [sample.turns[1].text for sample in jsonl.read(file, question_key="text", answer_key="label").records]
    assert answers == ["yes", "no"]


def test_a_list_inside_an_object_is_named_with_the_way_out(tmp_path):
    (tmp_path / "TextVQA_0.5.1_val.json").write_text('{"dataset_type": "val", "data": [{"question": "a?"}]}')
    with pytest.raises(DataError, match="its list is the value of 'data': write that list to a separate file"):
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
    assert [isinstance(record, Drop) for record in source.records] == [True, False, True]


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


@pytest.mark.parametrize(("question", "told"), [("Which is it, a or b?", 1), ("Which? (A) a (B) b", 0)])
def test_questions_with_letters_as_answers_and_options_that_are_not_read_are_reported_by_the_build(
    tmp_path, question, told
):
    rows = [{"text": question, "answer": letter} for letter in "AB"]
    (tmp_path / "q.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    notes = jsonl.read(tmp_path / "q.jsonl", question_key="text", answer_key="answer").notes
    assert len(notes) == told
    if told:
        assert "2 of 2 questions whose answer is a letter" in notes[0]
        assert "A. Africa" in notes[0]


def test_answers_in_words_need_no_options(tmp_path):
    (tmp_path / "q.jsonl").write_text(json.dumps({"text": "Is it a cat?", "answer": "yes"}) + "\n")
    assert jsonl.read(tmp_path / "q.jsonl", question_key="text", answer_key="answer").notes == ()
