"""The rates are measured on the whole model, with a tree of real names; small numbers, but the same code."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from eval.benchmarks import rates
from eval.benchmarks.class_rates import imagenet_tokens
from eval.benchmarks.image_rates import main
from eval.benchmarks.rates import RateOptions, measured_rates, ratios
from eval.class_scores.trie import ClassTrie
from train.models import layer_parts
from train.models.llava import LlavaFamily
from train.toy.random_models import random_model

TOKENIZER = Path(__file__).resolve().parents[4] / "shared" / "data" / "llama2_tokenizer"
THEIRS = ("generate", "forward_per_name")
NAMES = [[5, 6], [5, 7, 8], [9], [10, 11]]


@pytest.fixture(scope="module")
def model():
    return random_model("tiny")


@pytest.mark.slow
def test_every_way_has_a_rate_at_every_batch_size_and_the_ratios_are_theirs(capsys):
    main(["--shape", "tiny", "--device", "cpu", "--runs", "1", "--batch", "2,3", "--names-forwarded", "1", "--json"])
    printed = capsys.readouterr()
    result = json.loads(printed.out)
    assert {(rate["way"], rate["batch"]) for rate in result["rates"]} == {
        (way, batch) for way in rates.WAYS for batch in (2, 3)
    }
    for rate in result["rates"]:
        assert rate["images_per_second"] == pytest.approx(rate["batch"] / rate["seconds"])
        assert f"{rates.LABELS[rate['way']]}, {rate['batch']} at a time" in printed.err
    speed = {(rate["way"], rate["batch"]): rate["images_per_second"] for rate in result["rates"]}
    expected = speed["greedy", 3] / speed["generate", 2]
    assert result["ratios"]["greedy 3 / generate 2"] == pytest.approx(expected)
    assert {rate["scale"] for rate in result["rates"] if rate["way"] == "forward_per_name"} == {1000.0}


def test_a_loaded_model_is_measured_without_changing_its_weights_and_the_caller_may_stop(model):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    options = RateOptions(batches=(64, 8), ways=("scoring", "top1"), runs=1)
    found = measured_rates(model, LlavaFamily(model.config), NAMES, options)
    first = next(found)
    found.close()
    assert (first["way"], first["batch"]) == ("top1", 8)  # what has a goal comes first
    assert first["images_per_second"] > 0
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_both_sides_answer_the_same(model, monkeypatch):
    said = {}

    def keep(owner, name, key):
        method = getattr(owner, name)

        def kept(*arguments, **options):
            said[key] = method(*arguments, **options)
            return said[key]

        monkeypatch.setattr(owner, name, kept)

    keep(rates.Greedy, "answers", "greedy")
    keep(type(model), "generate", "generate")
    options = RateOptions(batches=(3,), ways=("greedy", "generate"), runs=1)
    list(measured_rates(model, LlavaFamily(model.config), NAMES, options))
    assert said["greedy"] == said["generate"][:, -rates.ANSWER :].tolist()


def test_transformers_side_runs_its_own_norms_where_ours_are_fused(model, monkeypatch):
    def fused(module, states):
        raise AssertionError("Liger's kernel ran on transformers' side")

    monkeypatch.setattr(layer_parts, "_liger_norm", fused)
    norms = [layer.input_layernorm for layer in model.model.language_model.layers]
    for norm in norms:
        layer_parts.fuse_norm(norm)
    options = RateOptions(batches=(2,), runs=1, names_forwarded=1)
    family = LlavaFamily(model.config)
    try:
        found = [list(measured_rates(model, family, NAMES, replace(options, ways=(way,)))) for way in THEIRS]
    finally:
        layer_parts.restore_layers(model)
    assert all(rate[0]["images_per_second"] > 0 for rate in found)


def test_a_way_without_enough_memory_has_an_error_and_the_others_continue(model, monkeypatch):
    def short(self, count):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(rates._RatedModel, "_scoring", short)
    options = RateOptions(batches=(1,), ways=("scoring", "greedy"), runs=1)
    found = list(measured_rates(model, LlavaFamily(model.config), NAMES, options))
    assert found[0] == {"way": "scoring", "batch": 1, "error": "the device has not enough memory"}
    assert found[1]["images_per_second"] > 0
    assert ratios(found) == {}


@pytest.mark.slow
@pytest.mark.skipif(not TOKENIZER.exists(), reason="needs the LLaMA tokenizer")
def test_names_without_a_tokenizer_have_a_tree_of_about_the_same_size():
    trees = [ClassTrie(imagenet_tokens(tokenizer, 32000)) for tokenizer in (None, str(TOKENIZER))]
    assert [len(tree.inner) for tree in trees] == [1928, 1866]
    assert [tree.depth for tree in trees] == [11, 12]


@pytest.mark.parametrize("batch", ["0", "8,", "eight"])
def test_a_batch_that_is_no_list_of_numbers_is_an_error(batch, capsys):
    with pytest.raises(SystemExit):
        main(["--batch", batch])
    assert "--batch" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_one_line_that_says_what_to_do(capsys):
    with pytest.raises(SystemExit):
        main([])
    assert "use --device cpu with --shape tiny" in capsys.readouterr().err
