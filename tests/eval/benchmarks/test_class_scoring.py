"""The benchmark measures what it says: small numbers, but the same code."""

import json
from pathlib import Path

import pytest

from eval.benchmarks.class_scoring import main
from eval.benchmarks.class_scoring_speed import as_text, count_nodes
from eval.benchmarks.confident_toy_model import train_peaked

TOKENIZER = Path(__file__).resolve().parents[4] / "shared" / "data" / "llama2_tokenizer"


@pytest.mark.slow
@pytest.mark.skipif(not TOKENIZER.exists(), reason="needs the LLaMA tokenizer")
def test_exactly_the_inner_nodes_are_forwarded_and_all_three_ways_agree(capsys):
    small = ["--hidden", "64", "--layers", "1", "--prefix", "16", "--loop-classes", "4", "--full-classes", "2"]
    main(["--tokenizer", str(TOKENIZER), *small, "--no-top1", "--json"])
    result = json.loads(capsys.readouterr().out)
    assert {name: row["behind_prefix"] for name, row in result["tokens"].items()} == {
        "imagenet": 1866,
        "stanford_cars": 995,
    }
    assert result["tokens"]["imagenet"]["forwarded"] == 16 + 1866
    assert result["speed"]["fp32"]["largest_difference"] < 1e-4
    assert result["speed"]["fp32"]["split_attention_difference"] < 1e-5
    assert "1,866 tokens forwarded" in as_text(result)


@pytest.mark.slow
def test_a_sure_model_needs_few_nodes_and_finds_the_same_class():
    names = [[first, 10 + second, 20 + third] for first in range(4) for second in range(4) for third in range(4)]
    result = count_nodes(names, steps=150)
    assert result["inner_nodes"] == 20
    for kind in ("sum", "cfg"):
        assert result[kind]["equal"]
        assert result[kind]["mean_nodes"] < 6
        assert result[kind]["accuracy"] > 0.5  # it did learn something
        rounds = result[kind]["rounds"]
        assert rounds["gpu"]["forwards"] <= rounds["cpu"]["forwards"]
        assert all(row["transfers"] == row["forwards"] + 1 for row in rounds.values())


def test_images_are_drawn_from_the_seed():
    peaked = train_peaked([[1], [2, 3]], steps=1)
    first, again, other = peaked.images(8), peaked.images(8), peaked.images(8, seed=2)
    assert (first[0] == again[0]).all()
    assert not (first[0] == other[0]).all()
