"""Sentence encoders: each way to pool against its formula, whole folders against the steps done by hand, refusals."""

import json

import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch.nn import functional
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from configs.errors import ConfigError
from eval.models.sentence_encoder import load_sentence_encoder, pool

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "dog", "cat", "hound"]
MEAN = {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}
STATES = torch.tensor([[[1.0, 4.0], [3.0, 2.0], [9.0, 9.0]], [[2.0, 0.0], [4.0, 2.0], [6.0, 1.0]]])
MASK = torch.tensor([[1, 1, 0], [1, 1, 1]])


@pytest.mark.parametrize(
    ("way", "vectors"),
    [
        ("mean", [[2, 3], [4, 1]]),
        ("cls", [[1, 4], [2, 0]]),
        ("max", [[3, 4], [6, 2]]),
        ("lasttoken", [[3, 2], [6, 1]]),
        ("mean_sqrt_len_tokens", [[4 / 2**0.5, 6 / 2**0.5], [12 / 3**0.5, 3 / 3**0.5]]),
        ("weightedmean", [[7 / 3, 8 / 3], [28 / 6, 7 / 6]]),
    ],
)
def test_padding_is_left_out_of_each_way_to_pool(way, vectors):
    torch.testing.assert_close(pool(STATES, MASK, [way]), torch.tensor(vectors, dtype=torch.float32))


def test_padding_on_the_left_and_several_ways():
    found = pool(STATES, torch.tensor([[0, 1, 1], [1, 1, 1]]), ["cls", "lasttoken"])
    assert found.tolist() == [[3, 2, 9, 9], [2, 0, 6, 1]]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoder")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(WORDS), hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8,
        max_position_embeddings=16,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    made = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, pad_token="[PAD]", unk_token="[UNK]")
    tokenizer.save_pretrained(folder)
    return folder


def describe(folder, pooling=MEAN, more=(), **settings):
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling"), *more]
    modules = [{"idx": n, "path": p, "type": f"sentence_transformers.models.{k}"} for n, (p, k) in enumerate(kinds)]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 6} | settings))
    return folder


def test_a_folder_gives_its_normalized_pooled_states_and_a_text_is_cut_at_its_length(base):
    encoder = load_sentence_encoder(describe(base, more=[("2_Normalize", "Normalize")]), "cpu")
    model = BertModel.from_pretrained(base).eval()
    with torch.inference_mode():
        states = model(torch.tensor([[2, 4, 5, 3]])).last_hidden_state
    found = encoder.embed(["a dog", "a dog a cat a cat a cat"])
    torch.testing.assert_close(found[0], functional.normalize(states.mean(1), dim=-1)[0])
    assert [encoder.is_cut(text) for text in ("a dog", "a dog a cat a cat a cat")] == [False, True]
    torch.testing.assert_close(found[1], encoder.embed(["a dog a cat"])[0])


def test_a_dense_layer_and_lower_case_are_applied(base):
    (base / "2_Dense").mkdir(exist_ok=True)
    weight = torch.randn(3, 8, generator=torch.Generator().manual_seed(1))
    save_file({"linear.weight": weight, "linear.bias": torch.ones(3)}, base / "2_Dense" / "model.safetensors")
    dense = {
        "in_features": 8,
        "out_features": 3,
        "bias": True,
        "activation_function": "torch.nn.modules.activation.Tanh",
    }
    (base / "2_Dense" / "config.json").write_text(json.dumps(dense))
    plain = load_sentence_encoder(describe(base), "cpu")
    encoder = load_sentence_encoder(describe(base, more=[("2_Dense", "Dense")], do_lower_case=True), "cpu")
    pooled = plain.encode(["a dog"])
    expected = functional.normalize(torch.tanh(pooled @ weight.T + 1), dim=-1)
    torch.testing.assert_close(encoder.embed(["A Dog"]), expected.detach())


@pytest.mark.parametrize(
    ("pooling", "more", "message"),
    [
        ({}, (), "pools by nothing"),
        ({"pooling_mode": "attention"}, (), "pools by attention"),
        (MEAN | {"include_prompt": False}, (), "include_prompt"),
        (MEAN, [("2_LSTM", "LSTM")], "has the step LSTM; supported are Transformer, Pooling"),
    ],
)
def test_what_is_not_supported_is_named(base, pooling, more, message):
    with pytest.raises(ConfigError, match=message):
        load_sentence_encoder(describe(base, pooling, more), "cpu")


def test_another_folder_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ConfigError, match=r"has no modules\.json"):
        load_sentence_encoder(tmp_path, "cpu")
    with pytest.raises(ConfigError, match="there is no folder"):
        load_sentence_encoder(tmp_path / "nowhere", "cpu")
