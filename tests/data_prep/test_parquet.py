"""Parquet files as the hub ships data sets, built whole; without the package pyarrow, one line that names the extra."""

import io
import json
import sys
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from configs.errors import ConfigError, DataError
from data_prep import build
from data_prep.readers import jsonl, llava
from data_prep.sample import Drop
from data_prep.shards import ShardSet

from .conftest import picture

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
CLASSES = ["owl", "cat", "dog"]


def write(path: Path, columns: dict, features: dict | None = None, rows_a_group: int = 2) -> Path:
    table = pa.table(columns)
    if features:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=rows_a_group)
    return path


def image_column(count: int, start: int = 0) -> "pa.Array":
    cells = [{"bytes": picture(start + number), "path": f"{number}.jpg"} for number in range(count)]
    return pa.array(cells, IMAGE)


LABELS = {"image": {"_type": "Image"}, "label": {"names": CLASSES, "_type": "ClassLabel"}}


@pytest.fixture
def built_shards(tmp_path, write_config):
    def make(path: Path, reader: str, options: str) -> ShardSet:
        build.main(["--config", str(write_config(path, reader, options, max_drop_fraction=0.5))])
        return ShardSet.open(tmp_path / "shards/pets")

    return make


def test_images_and_classes_of_the_hub_are_built_from_the_file_itself(tmp_path, built_shards):
    labels = [2, 0, 1, -1, 2]
    file = write(tmp_path / "train.parquet", {"image": image_column(5), "label": labels}, LABELS)
    shards = built_shards(file, "jsonl", "{label_key: label}")
    assert shards.manifest.class_names == tuple(CLASSES)
    made = [shards.sample(i) for i in range(len(shards))]
    assert [(s.label, s.label_name, s.image) for s in made] == [
        (2, "dog", picture(0)), (0, "owl", picture(1)), (1, "cat", picture(2)), (2, "dog", picture(4)),
    ]  # fmt: skip
    (drop,) = shards.manifest.drops
    assert drop.reason == "no label: -1 means an unknown class"


def test_several_processes_build_the_same_bytes(tmp_path, write_config, built_shards):
    file = write(tmp_path / "train.parquet", {"image": image_column(12), "label": [0, 1, 2] * 4}, LABELS)
    alone = built_shards(file, "jsonl", "{label_key: label}").fingerprint
    config = write_config(file, "jsonl", "{label_key: label}", shards=tmp_path / "again")
    build.main(["--config", str(config), "--processes", "2"])
    assert ShardSet.open(tmp_path / "again/pets").fingerprint == alone


def test_an_image_that_was_replaced_in_the_file_is_noticed_by_the_next_build(tmp_path, built_shards):
    file = write(tmp_path / "a.parquet", {"image": image_column(2), "label": [0, 1]}, LABELS)
    built_shards(file, "jsonl", "{label_key: label}")
    write(file, {"image": image_column(2, start=7), "label": [0, 1]}, LABELS)
    with pytest.raises(SystemExit):
        built_shards(file, "jsonl", "{label_key: label}")


def test_a_folder_of_parquet_files_is_one_source_and_several_splits_need_a_choice(tmp_path):
    folder = tmp_path / "repository"
    for number in range(2):
        columns = {"image": image_column(2, start=2 * number), "label": [number, 2]}
        write(folder / f"data/train-{number:05d}-of-00002.parquet", columns, LABELS)
    read = jsonl.read(folder, label_key="label")
    assert [r.label_name for r in read.records] == ["owl", "dog", "cat", "dog"]
    assert [r.image() for r in read.records] == [picture(n) for n in range(4)]
    write(folder / "data/test-00000-of-00001.parquet", {"image": image_column(1), "label": [1]}, LABELS)
    with pytest.raises(DataError, match="holds the splits test, train; choose one with the option split"):
        jsonl.read(folder, label_key="label")
    (only,) = jsonl.read(folder, label_key="label", split="test").records
    assert only.label_name == "cat"
    other = {"image": image_column(1), "label": [0]}
    write(
        folder / "data/train-00001-of-00002.parquet", other, LABELS | {"label": {"names": ["a"], "_type": "ClassLabel"}}
    )
    with pytest.raises(DataError, match="has other columns or class names than"):
        jsonl.read(folder, label_key="label", split="train")


def test_conversations_and_images_in_lists_are_read_from_parquet_too(tmp_path, built_shards):
    turns = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "a cat"}]
    images = [[{"bytes": picture(n), "path": None}] for n in range(3)]
    words = [{"from": "human", "value": "Hello?"}, {"from": "gpt", "value": "Hi"}]
    columns = {
        "images": pa.array([*images, [], None, [None]], pa.list_(IMAGE)),
        "conversations": [turns, turns, turns, words, words, words],
    }
    shards = built_shards(write(tmp_path / "a.parquet", columns), "llava", "{}")
    assert [shards.sample(i).image for i in range(6)] == [picture(0), picture(1), picture(2), None, None, None]


def test_structs_without_bytes_name_files_and_a_column_of_bytes_is_an_image(tmp_path, built_shards):
    (tmp_path / "0.jpg").write_bytes(picture(0))
    cells = [{"bytes": None, "path": "0.jpg"}, {"bytes": picture(1), "path": None}, {"bytes": None, "path": None}]
    file = write(tmp_path / "a.parquet", {"image": pa.array(cells, IMAGE), "text": ["a", "b", "c"]})
    shards = built_shards(file, "jsonl", "{question: 'What?', answer_key: text}")
    assert [shards.sample(i).image for i in range(3)] == [picture(0), picture(1), None]
    plain = write(tmp_path / "b.parquet", {"jpg": [picture(3)], "text": ["a"], "day": [date(2020, 1, 2)]})
    (sample,) = jsonl.read(plain, question="What?", answer_key="text", image_key="jpg").records
    assert sample.image() == picture(3)
    assert sample.meta == {"text": "a", "day": "2020-01-02"}


def test_class_names_of_a_list_must_be_those_of_the_file(tmp_path):
    file = write(tmp_path / "a.parquet", {"image": image_column(1), "label": [0]}, LABELS)
    (tmp_path / "names.json").write_text(json.dumps(sorted(CLASSES)))
    with pytest.raises(DataError, match="its numbers may mean other classes"):
        jsonl.read(file, label_key="label", class_names=str(tmp_path / "names.json"))
    (tmp_path / "names.json").write_text(json.dumps(CLASSES))
    (sample,) = jsonl.read(file, label_key="label", class_names=str(tmp_path / "names.json")).records
    assert sample.label_name == "owl"


def test_labels_that_are_lists_of_classes_are_several_labels(tmp_path):
    features = {"label": {"feature": {"names": CLASSES, "_type": "ClassLabel"}, "_type": "List"}}
    file = write(tmp_path / "a.parquet", {"image": image_column(2), "label": [[0, 1], [2]]}, features)
    first, second = jsonl.read(file, label_key="label").records
    assert isinstance(first, Drop) and first.reason.startswith("label is a list")
    assert second.label_name == "dog"


def test_without_pyarrow_one_line_names_the_extra(tmp_path, monkeypatch):
    file = write(tmp_path / "a.parquet", {"image": image_column(1), "label": [0]}, LABELS)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigError, match=r"pip install 'vlm-classify\[parquet\]'"):
        jsonl.read(file, label_key="label")
    with pytest.raises(ConfigError, match=r"pip install 'vlm-classify\[parquet\]'"):
        llava.read(file)


def test_an_image_that_is_no_image_is_a_drop_as_from_a_file(tmp_path, built_shards):
    noise = io.BytesIO()
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(noise, "PNG")
    cells = [{"bytes": b"<html>", "path": "0.jpg"}, {"bytes": noise.getvalue(), "path": "1.jpg"}]
    file = write(tmp_path / "a.parquet", {"image": pa.array(cells, IMAGE), "label": [0, 1]}, LABELS)
    (drop,) = built_shards(file, "jsonl", "{label_key: label}").manifest.drops
    assert drop.reason.startswith("not an image")


def test_a_split_that_no_file_is_of_and_a_missing_file_of_a_split_are_refused(tmp_path):
    columns = {"image": image_column(1), "label": [0]}
    write(tmp_path / "one/data/train-00000-of-00001.parquet", columns, LABELS)
    with pytest.raises(DataError, match="no split 'test': its files are of train"):
        jsonl.read(tmp_path / "one", label_key="label", split="test")
    for number in (0, 2):
        write(tmp_path / f"part/train-0000{number}-of-00003-ab12.parquet", columns, LABELS)
    for split in ("train", None):
        with pytest.raises(DataError, match="2 of 3 files of train: train-00001-of-00003 missing"):
            jsonl.read(tmp_path / "part", label_key="label", split=split)
    assert len(jsonl.read(tmp_path / "part/train-00002-of-00003-ab12.parquet", label_key="label").records) == 1


def test_a_split_may_be_a_column_of_the_files(tmp_path):
    write(tmp_path / "all/0000.parquet", {"image": image_column(2), "label": [0, 1], "split": ["a", "b"]}, LABELS)
    (record,) = jsonl.read(tmp_path / "all", label_key="label", split="b").records
    assert record.label == 1
