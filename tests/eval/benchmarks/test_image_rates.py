"""The rates are measured on the whole model, with a tree of real names; small numbers, but the same code."""

import json
from pathlib import Path

import pytest

from eval.benchmarks.image_rates import main

TOKENIZER = Path(__file__).resolve().parents[4] / "shared" / "data" / "llama2_tokenizer"
SMALL = ["--shape", "tiny", "--device", "cpu", "--tokenizer", str(TOKENIZER), "--runs", "1"]


@pytest.mark.skipif(not TOKENIZER.exists(), reason="needs the LLaMA tokenizer")
@pytest.mark.slow
def test_all_three_ways_have_a_rate(capsys):
    main([*SMALL, "--score-batch", "2", "--answer-batch", "3", "--json"])
    result = json.loads(capsys.readouterr().out)
    assert result["names"] == 1000
    for way, batch in {"scoring": 2, "top1": 2, "greedy": 3}.items():
        row = result[way]
        assert row["batch"] == batch
        assert row["images_per_second"] == pytest.approx(batch / row["seconds"])
    assert result["top1"]["mean_nodes"] > 0


@pytest.mark.slow
@pytest.mark.skipif(not TOKENIZER.exists(), reason="needs the LLaMA tokenizer")
def test_the_text_names_every_way(capsys):
    main([*SMALL, "--score-batch", "1", "--answer-batch", "1"])
    text = capsys.readouterr().out
    assert all(part in text for part in ("all names scored", "only the best name", "answers of 5 tokens"))
