"""Table 5 on the questions that the authors released, with stand-in images, by the shipped data set and base."""

import json
from pathlib import Path

import pytest

from configs.eval_dir import EvalDir
from data_prep import build
from eval.reproduce import main
from eval.runner.predictions import read_records

ROOT = Path(__file__).resolve().parents[3]
RELEASED = ROOT.parent / "shared" / "data" / "vlmclassifier" / "imagewikiqa.jsonl"
DATASET = ROOT / "configs" / "eval" / "reproduce" / "wikiqa_stand_in.yaml"
BASE = ROOT / "train" / "assets" / "tiny_llava"
ASKED = 8


@pytest.mark.skipif(not RELEASED.is_file(), reason="the authors' imagewikiqa.jsonl is not here")
@pytest.mark.slow
def test_every_row_of_table_5_comes_out(tmp_path, monkeypatch, picture):
    (tmp_path / "photographs").mkdir()
    for number in range(3):
        (tmp_path / "photographs" / f"{number}.jpg").write_bytes(picture(number))
    source = "data.sources.wikiqa_stand_in"
    values = (f"{source}.path={RELEASED}", f"{source}.options={{stand_ins: {tmp_path / 'photographs'}}}")
    settings = [word for value in values for word in ("--set", value)]
    monkeypatch.chdir(tmp_path)
    build.main(["--config", str(DATASET), "--sources", "wikiqa_stand_in", *settings])
    short = ["--set", "protocol.max_new_tokens=6", "--set", "batch_size=4"]
    main(["--model", str(BASE), "--datasets", str(DATASET), "--limit", str(ASKED), *settings, *short])

    (record,) = Path("runs/eval").glob("reproduction-paper-*.json")
    rows = {row["row"]: row for row in json.loads(record.read_text())["rows"]}
    assert [key for key, row in rows.items() if row["reason"]] == []
    assert list(rows) == ["questions", "random", "max_frequency", "with_class", "without_image"]
    for key in ("questions", "with_class", "without_image"):
        assert rows[key]["accuracy"]["n"] == ASKED
    letters = sorted(p.target for p in read_records(EvalDir(Path(rows["questions"]["folder"]))).predictions.values())
    most = max(letters.count(letter) for letter in "ABCD")
    assert rows["max_frequency"]["note"] == f"{most / ASKED:.1%} of {ASKED}"
    assert rows["random"]["note"] == f"25.0% of {ASKED}"
    asked = {key: _asked(rows[key]["folder"]) for key in ("questions", "with_class", "without_image")}
    assert len({frozenset(asked[key].items()) for key in asked}) == 3  # three different questions about each item


def _asked(folder: str) -> dict[str, str]:
    """Item to the hash of what the model was asked."""
    return {key: prediction.prompt_hash for key, prediction in read_records(EvalDir(Path(folder))).predictions.items()}
