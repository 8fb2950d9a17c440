import json
from collections import Counter

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


def test_a_malformed_line_is_a_drop(tmp_path):
    (tmp_path / "q.jsonl").write_text('{"image": 1}\n{"image\n')
    drops = list(imagewikiqa.read(tmp_path / "q.jsonl").records)
    assert all(isinstance(drop, Drop) and drop.reason.startswith("malformed line") for drop in drops)
    assert len(drops) == 2


def test_the_two_thousand_published_questions_build_with_stand_in_images(shared_data, tmp_path, write_config, picture):
    file = shared_data / "vlmclassifier" / "imagewikiqa.jsonl"
    names = {json.loads(line)["image"] for line in file.read_text().splitlines()}
    (tmp_path / "images").mkdir()
    for name in names:
        (tmp_path / name).write_bytes(picture(size=(6, 4)))
    build.main(
        ["--config", str(write_config(file, "imagewikiqa", f"{{image_root: {tmp_path}}}", samples_per_shard=500))]
    )
    shards = ShardSet.open(tmp_path / "shards/pets")
    samples = [shards.sample(number) for number in range(len(shards))]
    assert (len(samples), len(names), len({sample.id for sample in samples})) == (2000, 1961, 2000)
    assert Counter(sample.meta["answer"] for sample in samples) == {"A": 526, "B": 522, "C": 445, "D": 507}
    assert len({sample.label_name for sample in samples}) == 527
