import json
from collections import Counter

import pytest

from configs.errors import DataError
from data_prep import build
from data_prep.readers import imagewikiqa
from data_prep.sample import Drop
from data_prep.shards import ShardSet

ROW = {"image": "images/a.JPEG", "text": "Which?\nA. x", "label": "A", "wiki": "x.", "classname": "tench"}


def test_a_question_keeps_its_letter_its_class_and_the_sentence_behind_it(tmp_path):
    (tmp_path / "q.jsonl").write_text(json.dumps(ROW) + "\n")
    (record,) = imagewikiqa.read(tmp_path / "q.jsonl", image_root="/images").records
    assert str(record.image) == "/images/images/a.JPEG"
    assert [turn.text for turn in record.turns] == ["<image>\nWhich?\nA. x", "A"]
    assert record.label_name == "tench"
    assert record.meta == {"classname": "tench", "wiki": "x.", "answer": "A"}


def test_the_flat_validation_folder_of_imagenet_will_do(tmp_path):
    (tmp_path / "q.jsonl").write_text(json.dumps(ROW) + "\n")
    (tmp_path / "a.JPEG").write_bytes(b"x")
    (record,) = imagewikiqa.read(tmp_path / "q.jsonl").records
    assert record.image == tmp_path / "a.JPEG"


def test_stand_ins_are_spread_over_the_images_and_named(tmp_path, picture):
    rows = [ROW | {"image": f"images/{number}.JPEG"} for number in (*range(60), 7)]
    (tmp_path / "q.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    (tmp_path / "7.JPEG").write_bytes(b"the image itself is not looked for")
    (tmp_path / "others" / "deep").mkdir(parents=True)
    for name in ("a.jpg", "deep/b.png", "deep/c.JPEG", "notes.txt"):
        (tmp_path / "others" / name).write_bytes(picture())

    def shown():
        return list(imagewikiqa.read(tmp_path / "q.jsonl", stand_ins=str(tmp_path / "others")).records)

    records = shown()
    assert {record.image.name for record in records} == {"a.jpg", "b.png", "c.JPEG"}
    assert all(record.meta["stand_in"] == record.image.name for record in records)
    assert records[7].image == records[60].image
    assert records == shown()


def test_a_folder_without_images_cannot_stand_in(tmp_path):
    (tmp_path / "q.jsonl").write_text(json.dumps(ROW) + "\n")
    with pytest.raises(DataError, match="has no image to substitute"):
        imagewikiqa.read(tmp_path / "q.jsonl", stand_ins=str(tmp_path))


def test_a_malformed_line_is_a_drop(tmp_path):
    nulls = json.dumps(ROW | {"text": None}) + "\n" + json.dumps(ROW | {"image": ["a.jpg"]})
    (tmp_path / "q.jsonl").write_text(f'{{"image": 1}}\n{{"image\n{nulls}\n')
    drops = list(imagewikiqa.read(tmp_path / "q.jsonl").records)
    assert all(isinstance(drop, Drop) and drop.reason.startswith("malformed line") for drop in drops)
    assert len(drops) == 4


def test_the_two_thousand_published_questions_build_with_stand_in_images(shared_data, tmp_path, write_config, picture):
    file = shared_data / "vlmclassifier" / "imagewikiqa.jsonl"
    (tmp_path / "one.jpg").write_bytes(picture(size=(6, 4)))
    options = f"{{stand_ins: {tmp_path}}}"
    build.main(["--config", str(write_config(file, "imagewikiqa", options, samples_per_shard=500))])
    shards = ShardSet.open(tmp_path / "shards/pets")
    samples = [shards.sample(number) for number in range(len(shards))]
    assert len({sample.id for sample in samples}) == len(samples) == 2000
    assert Counter(sample.meta["answer"] for sample in samples) == {"A": 526, "B": 522, "C": 445, "D": 507}
    assert len({sample.label_name for sample in samples}) == 527


@pytest.mark.parametrize(
    ("changed", "reason"),
    [({"text": "Which is it?"}, "no lettered options that can be read; the form"),
     ({"text": "Which?\nA. x\nB. y", "label": "C"}, "the answer 'C' is none of the 2 options' letters")],
)  # fmt: skip
def test_a_question_without_options_or_their_letter_is_dropped_with_the_form(tmp_path, changed, reason):
    (tmp_path / "q.jsonl").write_text(json.dumps(ROW | changed) + "\n")
    (record,) = imagewikiqa.read(tmp_path / "q.jsonl", image_root="/images").records
    assert isinstance(record, Drop)
    assert reason in record.reason
