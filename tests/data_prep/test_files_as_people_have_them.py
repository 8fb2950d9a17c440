"""Files of records as people have them: other forms behind the name, tables, packed files, and no data at all."""

import gzip
import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from configs.errors import DataError
from data_prep import build
from data_prep.readers import jsonl, llava
from data_prep.readers.records_file import load_values
from data_prep.sample import Drop
from data_prep.shards import ShardSet

from .conftest import picture

CASES = Path(__file__).resolve().parents[3] / "shared" / "cases"


def record(number: int, answer: str = "a square") -> dict:
    turns = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": answer}]
    return {"id": str(number), "image": f"{number}.jpg", "conversations": turns}


RECORDS = [record(number) for number in range(3)]
LIST = json.dumps(RECORDS)
LINES = "\n".join(map(json.dumps, RECORDS)) + "\n"


def zipped(text: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("data.json", text)
    return buffer.getvalue()


READ = {
    "byte-order-mark": ("a.json", b"\xef\xbb\xbf" + LIST.encode()),
    "byte-order-mark-lines": ("a.jsonl", b"\xef\xbb\xbf" + LINES.encode()),
    "utf-16": ("a.json", LIST.encode("utf-16")),
    "utf-16-lines": ("a.jsonl", LINES.encode("utf-16")),
    "utf-32": ("a.json", LIST.encode("utf-32")),
    "list-in-jsonl": ("a.jsonl", json.dumps(RECORDS, indent=1).encode()),
    "list-on-a-line": ("a.jsonl", LIST.encode()),
    "lines-in-json": ("a.json", LINES.encode()),
    "lines-in-txt": ("a.txt", LINES.encode()),
    "objects-over-several-lines": ("a.json", "\n".join(json.dumps(row, indent=1) for row in RECORDS).encode()),
    "objects-and-commas": ("a.json", ",\n".join(map(json.dumps, RECORDS)).encode()),
    "two-lists": ("a.json", f"{json.dumps(RECORDS[:1])}\n{json.dumps(RECORDS[1:])}".encode()),
    "crlf": ("a.jsonl", LINES.replace("\n", "\r\n").encode()),
    "blank-lines": ("a.jsonl", LINES.replace("\n", "\n\n").encode()),
    "gzip-by-content": ("a.json", gzip.compress(LIST.encode())),
    "gzip-utf-16": ("a.jsonl.gz", gzip.compress(LINES.encode("utf-16"))),
}


@pytest.mark.slow
@pytest.mark.parametrize("name, data", READ.values(), ids=READ)
def test_other_forms_behind_a_name_are_built_whole(name, data, tmp_path, write_config):
    for number in range(3):
        (tmp_path / f"{number}.jpg").write_bytes(picture(number))
    (tmp_path / name).write_bytes(data)
    build.main(["--config", str(write_config(tmp_path / name, "llava"))])
    shards = ShardSet.open(tmp_path / "shards/pets")
    assert [shards.sample(i).meta["llava_id"] for i in range(len(shards))] == ["0", "1", "2"]
    assert shards.manifest.drops == ()


REFUSED = {
    "empty": ("a.json", b"", r"is empty \(0 bytes\)"),
    "spaces": ("a.json", b" \n", r"is empty \(2 bytes\)"),
    "zip": ("a.json", zipped(LIST), "is a zip archive .* unpack it"),
    "xz": ("a.json", b"\xfd7zXZ\0\0", "packed with xz; unpack it with unxz"),
    "html": ("a.json", b"<!DOCTYPE html><html><head><title>Sign  in</title>", r"is a web page \('Sign in'\), not data"),
    "html-in-jsonl": ("a.jsonl", b"\n <html>404</html>", "is a web page, not data"),
    "html-in-csv": ("a.csv", b"<html>404</html>", "is a web page, not data"),
    "not-found": ("a.json", b"Entry not found", "server's error message"),
    "lfs": ("a.json", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "run git lfs pull"),
    "lfs-csv": ("a.csv", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "run git lfs pull"),
    "pickle": ("a.json", b"\x80\x04\x95\0\0", "is a Python pickle"),
    "arrow": ("a.arrow", b"\xff\xff\xff\xff\x10\0\0\0", "is an Arrow stream"),
    "damaged-parquet": ("a.parquet", b"PAR1" + bytes(range(256)) + b"PAR1", "is a damaged parquet file"),
    "gbk": ("a.json", json.dumps([record(0, "正方形")], ensure_ascii=False).encode("gbk"), "is not UTF-8.*iconv"),
    "utf-16-without-mark": ("a.json", LIST.encode("utf-16-le"), "zero bytes; is it UTF-16"),
    "truncated": ("a.json", LIST[:200].encode(), "the file ends too early"),
    "trailing-comma": ("a.json", f"{LIST[:-1]},]".encode(), "remove the comma before the bracket"),
    "python": ("a.json", repr(RECORDS).encode(), "Python's notation; write it with json.dump"),
    "comment": ("a.jsonl", f"{LINES}# mine\n".encode(), r"after 3 good lines: .* line 4, column 1 .*no comments"),
    "bad-line": ("a.jsonl", f"{LINES}{{bad}}\n{LINES}".encode(), r"after 3 good lines.*line 4, column 2"),
    "yaml": ("a.yaml", b"datasets:\n - json_path: a.json\n", "looks like YAML"),
    "words": ("a.txt", b"nothing of the kind", "a file of records is JSON, JSON lines"),
    "wrapped-twice": ("a.json", json.dumps([RECORDS]).encode(), "holds a list of 1 lists"),
    "by-id": (
        "a.json",
        json.dumps({row["id"]: row for row in RECORDS}).encode(),
        r"3 objects by their ids \(0, 1, 2\)",
    ),
    "lists-by-column": (
        "a.json",
        json.dumps({"image": ["0.jpg", "1.jpg"], "label": ["a", "b"]}).encode(),
        r"it holds columns: .*to_json\(orient='records'\)",
    ),
    "objects-by-column": (
        "a.json",
        json.dumps({"image": {"0": "0.jpg", "1": "1.jpg"}, "label": {"0": "a", "1": "b"}}).encode(),
        "it holds columns",
    ),
    "columns-and-data": ("a.json", b'{"columns": ["image"], "data": [["0.jpg"]]}', "it holds columns"),
    "nested-deep": ("a.json", b"[" * 100_000, "not valid JSON"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name, data, message", REFUSED.values(), ids=REFUSED)
def test_a_file_that_is_no_list_of_records_says_what_it_is_in_one_line(
    name, data, message, tmp_path, write_config, capsys
):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(SystemExit) as ended:
        build.main(["--config", str(write_config(tmp_path / name, "llava"))])
    assert ended.value.code == 2
    error = capsys.readouterr().err.strip()
    assert "\n" not in error
    with pytest.raises(DataError, match=message):
        llava.read(tmp_path / name)


def test_a_folder_in_place_of_a_file_names_the_files_in_it(tmp_path):
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts/part1.json").write_text(LIST)
    with pytest.raises(DataError, match=r"is a folder, .* it has part1\.json"):
        llava.read(tmp_path / "parts")


def test_a_key_with_two_values_drops_its_record_and_a_repeated_value_does_not(tmp_path):
    twice = LIST.replace('"id": "0"', '"id": "0", "image": "2.jpg"', 1).replace('"id": "1"', '"id": "1", "id": "1"', 1)
    twice = twice.replace('"value": "a square"}]}]', '"value": "a", "value": "b"}]}]')
    (tmp_path / "a.json").write_text(twice)
    for number in range(3):
        (tmp_path / f"{number}.jpg").write_bytes(picture(number))
    drops = [r for r in llava.read(tmp_path / "a.json").records if isinstance(r, Drop)]
    assert [(drop.id, drop.reason.partition(":")[0]) for drop in drops] == [
        ("0000000", "repeated key"),
        ("0000002", "repeated key"),
    ]
    assert "'image' has two values" in drops[0].reason


@pytest.mark.parametrize(
    "name, text",
    [
        ("a.csv", 'image,label,note\n0.jpg,cat,"one, two"\n1.jpg,dog,\n'),
        ("a.csv", "\ufeffimage;label;note\r\n0.jpg;cat;one, two\r\n1.jpg;dog;\r\n"),
        ("a.tsv", "image\tlabel\tnote\n0.jpg\tcat\tone, two\n1.jpg\tdog\t\n"),
    ],
    ids=["comma", "semicolon-bom-crlf", "tab"],
)
def test_tables_with_a_header_are_built(name, text, tmp_path, write_config):
    for number in range(2):
        (tmp_path / f"{number}.jpg").write_bytes(picture(number))
    (tmp_path / name).write_bytes(text.encode())
    build.main(["--config", str(write_config(tmp_path / name, "jsonl", "{label_key: label}"))])
    shards = ShardSet.open(tmp_path / "shards/pets")
    assert [shards.sample(i).label_name for i in range(2)] == ["cat", "dog"]
    assert load_values(tmp_path / name)[0]["note"] == "one, two"


@pytest.mark.parametrize(
    "text, message",
    [
        ("0.jpg,cat\n1.jpg,dog\n", "has no header"),
        ("image,image\n0.jpg,cat\n", "has the column 'image' twice"),
        ("image\n0.jpg\n", "has one column, 'image'"),
        ('image,label\n"0.jpg,cat\n', "no valid table"),
        (
            "picture,label\n0.jpg,cat\n",
            r"no line of .* has the key 'image'; its keys are picture, label: set image_key",
        ),
        ("image,class\n0.jpg,cat\n", r"has the key 'label'; its keys are image, class: set label_key"),
    ],
)
def test_a_table_that_is_not_understood_says_why(text, message, tmp_path):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        jsonl.read(tmp_path / "a.csv", label_key="label")


def test_a_line_with_too_many_fields_is_a_drop_and_the_others_are_kept(tmp_path):
    (tmp_path / "a.csv").write_text("image,label\n0.jpg,cat, wild\n1.jpg,dog\n")
    first, second = jsonl.read(tmp_path / "a.csv", label_key="label").records
    assert first.reason == "3 fields in line 2: the header has 2"
    assert second.label_name == "dog"


def test_an_image_under_another_key_is_named_with_the_keys_that_there_are(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"file_name": "0.jpg", "text": "a cat"}\n')
    with pytest.raises(DataError, match=r"has the key 'image'; its keys are file_name, text: set image_key"):
        jsonl.read(tmp_path / "a.jsonl", question="What?", answer_key="text")
    (sample,) = jsonl.read(tmp_path / "a.jsonl", question="What?", answer_key="text", image_key="file_name").records
    assert sample.image == tmp_path / "0.jpg"
    (tmp_path / "a.jsonl").write_text('{"text": "a cat"}\n')
    (sample,) = jsonl.read(tmp_path / "a.jsonl", question="What?", answer_key="text").records
    assert sample.image is None
    (tmp_path / "a.jsonl").write_text('{"image": "0.jpg", "text": "a"}\n{"img": "1.jpg", "text": "b"}\n')
    _, drop = jsonl.read(tmp_path / "a.jsonl", question="What?", answer_key="text").records
    assert drop.reason.startswith("image under another key: 'img'")


@pytest.mark.skipif(not CASES.is_dir(), reason="the folder ../shared/cases is not there")
def test_none_of_the_collected_files_ends_in_a_traceback(tmp_path):
    script = tmp_path / "json_files.py"
    script.write_bytes((CASES / "json_files.py").read_bytes())
    subprocess.run([sys.executable, script], check=True, env=os.environ)
    read = {}
    for file in sorted(tmp_path.iterdir()):
        if file.name in ("img", script.name):
            continue
        try:
            made = list(llava.read(file).records)
            read[file.name] = (len(made), sum(isinstance(r, Drop) for r in made))
        except DataError as error:
            assert "\n" not in str(error)
    whole = {name for name, counts in read.items() if counts == (4, 0)}
    assert whole >= {
        "bom.json", "bom.jsonl", "array_in.jsonl", "array_one_line.jsonl", "lines_in.json", "lines_pretty.json",
        "lines_crlf.jsonl", "blank_lines.jsonl", "lines_joined_by_comma.json", "two_arrays_lines.json",
    }  # fmt: skip
    assert read["duplicate_keys.json"] == (4, 1)
