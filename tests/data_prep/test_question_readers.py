"""TextVQA, POPE and MM-Vet in the forms in which they are published."""

import json

import pytest

from configs.errors import DataError
from data_prep.readers import mm_vet, pope, textvqa
from data_prep.sample import Drop

SUFFIX = "Answer the question using a single word or phrase."
QUESTION = {
    "question_id": 34602, "image_id": "003a8ae2", "question": "what is the brand?",
    "answers": ["nokia"] * 7 + ["n"] * 3, "image_classes": ["Phone"], "set_name": "val",
}  # fmt: skip


def written(folder, name, value) -> object:
    text = value if isinstance(value, str) else json.dumps(value)
    (folder / name).write_text(text)
    return folder / name


def test_a_textvqa_question_keeps_its_ten_answers_and_its_image(tmp_path):
    (record,) = textvqa.read(written(tmp_path, "val.json", {"dataset_type": "val", "data": [QUESTION]})).records
    assert record.id == "003a8ae2/34602"
    assert record.image == tmp_path / "003a8ae2.jpg"
    assert [turn.text for turn in record.turns] == ["<image>\nwhat is the brand?", "nokia"]
    assert record.meta == {"group": "003a8ae2", "answers": QUESTION["answers"]}


def test_textvqa_images_are_found_in_the_folder_as_it_is_unpacked(tmp_path):
    (tmp_path / "train_images").mkdir()
    (record,) = textvqa.read(written(tmp_path, "val.json", {"data": [QUESTION]})).records
    assert record.image == tmp_path / "train_images" / "003a8ae2.jpg"


def test_llavas_file_gives_the_ocr_tokens_of_each_question(tmp_path):
    other = QUESTION | {"question_id": 2, "question": "Who?"}
    unknown = QUESTION | {"question_id": 3, "image_id": "else"}
    lines = [
        {"question_id": "003a8ae2", "image": "003a8ae2.jpg", "category": "default", "text":
         f"what is the brand?\nReference OCR token: NOKIA, a b, 5:00\n{SUFFIX}"},
        {"question_id": "003a8ae2", "image": "003a8ae2.jpg", "text": f"who?\nReference OCR token: \n{SUFFIX}"},
    ]  # fmt: skip
    file = written(tmp_path, "ocr.jsonl", "\n".join(map(json.dumps, lines)) + "\n")
    path = written(tmp_path, "val.json", {"data": [QUESTION, other, unknown]})
    first, second, dropped = textvqa.read(path, ocr_file=str(file)).records
    assert first.meta["ocr_tokens"] == ["NOKIA", "a b", "5:00"]
    assert second.meta["ocr_tokens"] == []
    assert dropped == Drop("3", "ocr_file does not have this question of this image")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"answers": ["a"] * 9}, "wrong number of answers, 9; VQA accuracy needs 10"),
        ({"answers": None}, "wrong number of answers, 0; VQA accuracy needs 10: the test set is published without any"),
        ({"answers": [None] * 10}, "malformed question: TypeError None is not a text"),
        ({"image_id": None}, "malformed question: TypeError None is not a text"),
    ],
)
def test_a_textvqa_question_that_cannot_be_scored_is_dropped(tmp_path, changes, reason):
    (record,) = textvqa.read(written(tmp_path, "val.json", {"data": [QUESTION | changes]})).records
    assert record.reason == reason


@pytest.mark.parametrize("value", [{"questions": []}, [{"text": "x"}], {"data": {}}])
def test_a_file_that_is_not_textvqa_is_refused_with_the_right_name(tmp_path, value):
    with pytest.raises(DataError, match=r"no list `data` .* TextVQA_0\.5\.1_val\.json"):
        textvqa.read(written(tmp_path, "val.json", value))


def test_an_ocr_file_without_tokens_is_refused(tmp_path):
    path = written(tmp_path, "val.json", {"data": [QUESTION]})
    for line, message in (
        ({"text": "who?"}, "lacks text or question_id"),
        ({"text": "who?", "question_id": "1"}, "no line"),
    ):
        with pytest.raises(DataError, match=message):
            textvqa.read(path, ocr_file=str(written(tmp_path, "ocr.jsonl", line)))


POPE = {
    "question_id": 1,
    "image": "COCO_val2014_000000016631.jpg",
    "text": "Is there a person in the image?",
    "label": "yes",
}


def test_a_pope_question_is_read_with_label_or_answer_and_without_llavas_line(tmp_path):
    lines = [
        POPE,
        POPE | {"question_id": 2, "label": "No "},
        {
            "question_id": 3,
            "image_source": "COCO_val2014_000000000001",
            "question": f"Is there a cat?\n{SUFFIX}",
            "answer": "no",
        },
    ]
    path = written(tmp_path, "coco_pope_popular.json", "\n".join(map(json.dumps, lines)) + "\n")
    records = list(pope.read(path, image_root="/coco").records)
    assert [record.id for record in records] == [
        "COCO_val2014_000000016631/1", "COCO_val2014_000000016631/2", "COCO_val2014_000000000001/3",
    ]  # fmt: skip
    assert [record.turns[-1].text for record in records] == ["yes", "no", "no"]
    assert records[2].turns[0].text == "<image>\nIs there a cat?"
    assert str(records[2].image) == "/coco/COCO_val2014_000000000001.jpg"
    assert records[0].meta == {"group": "COCO_val2014_000000016631"}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"label": "maybe"}, "its answer is 'maybe', neither yes nor no"),
        ({"label": None}, "malformed question: no label or answer"),
        ({"text": None}, "malformed question: no text or question"),
        ({"image": ["a"]}, "malformed question: TypeError ['a'] is not a text"),
    ],
)
def test_a_pope_line_that_cannot_be_scored_is_dropped(tmp_path, changes, reason):
    path = written(tmp_path, "coco_pope_random.json", "\n".join(map(json.dumps, [POPE, POPE | changes])))
    _, dropped = pope.read(path).records
    assert dropped.reason == reason


def test_llavas_combined_question_file_is_refused_as_it_has_no_labels(tmp_path):
    line = {key: value for key, value in POPE.items() if key != "label"} | {"category": "popular"}
    with pytest.raises(DataError, match="no line with label or answer; set path to a coco_pope_"):
        pope.read(written(tmp_path, "llava_pope_test.jsonl", line))


def test_an_mm_vet_question_keeps_its_capabilities_and_its_id(tmp_path):
    row = {"imagename": "v1_0.png", "question": "What is x?", "answer": "-1<AND>-5", "capability": ["ocr", "math"]}
    bad = {"v1_1": row | {"capability": []}, "v1_2": row | {"answer": None}}
    (tmp_path / "images").mkdir()
    first, *dropped = mm_vet.read(written(tmp_path, "mm-vet.json", {"v1_0": row, **bad})).records
    assert (first.id, first.image) == ("v1_0", tmp_path / "images" / "v1_0.png")
    assert [turn.text for turn in first.turns] == ["<image>\nWhat is x?", "-1<AND>-5"]
    assert first.meta == {"group": "v1_0.png", "capability": ["math", "ocr"]}
    assert [drop.reason for drop in dropped] == [
        "its capability is '[]', not a list of names", "malformed question: TypeError None is not a text",
    ]  # fmt: skip
    with pytest.raises(DataError, match=r"not an object of questions by id; set path to mm-vet\.json"):
        mm_vet.read(written(tmp_path, "other.json", [row]))
