"""Compiled layers give the same answers and scores, and no new length compiles again."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, OPTConfig, OPTForCausalLM

from configs.errors import ConfigError
from configs.evaluation import EvalConfig
from eval.class_scores.rules import Rule
from eval.class_scores.trie import ClassTrie
from eval.models.class_likelihood.tree_forward import TreeForward
from eval.models.class_likelihood.tree_scorer import TreeScorer
from eval.models.decoder_input import DecoderInput
from eval.models.greedy import Greedy, LanguageModel, Stop
from eval.models.kernels import layer_parts
from train.models.embedded import Embedded
from train.models.layer_parts import LayerParts

SIZES = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "vocab_size": 64}


@pytest.fixture(scope="module")
def model(widened):
    torch.manual_seed(0)
    return widened(LlamaForCausalLM(LlamaConfig(**SIZES, intermediate_size=48, num_key_value_heads=2)), 0.25)


@pytest.mark.slow
@torch.inference_mode()
def test_answers_and_scores_of_compiled_layers_are_the_same_and_lengths_do_not_compile_again(model):
    torch._dynamo.reset()
    compiled: list[int] = []

    def backend(graph, inputs):
        compiled.append(len(inputs))
        return graph.forward

    trie = ClassTrie([[5, 6, 7], [5, 8], [9, 10, 11, 12], [13]])
    found = {}
    for name, parts in {"none": LayerParts(), "compile": LayerParts.compiled(backend)}.items():
        language = LanguageModel(model.model, model.lm_head, model.model.embed_tokens, model.config, parts)
        tree = TreeForward(model.model, model.lm_head, model.model.embed_tokens, model.config, parts=parts)
        found[name] = []
        for length in (9, 12, 17, 23, 31):
            ids = torch.arange(5, 5 + length).repeat(3, 1)
            inputs = DecoderInput.of(Embedded(language.words(ids)))
            answers = Greedy(language, image_token=63).answers(ids.tolist(), inputs, Stop(frozenset({2}), 6))
            log_probs = TreeScorer(tree, 2).log_probs(tree.prefill(inputs, 8), trie)
            best = TreeScorer(tree, 2, 30).top1(tree.prefill(inputs, 8), trie, Rule("sum"))
            found[name].append((answers, log_probs.tolist(), [one.index for one in best]))
    for plain, fused in zip(found["none"], found["compile"], strict=True):
        assert plain[0] == fused[0]
        assert plain[1] == [pytest.approx(row, abs=1e-5) for row in fused[1]]
        assert plain[2] == fused[2]
    assert 0 < len(compiled) <= 8  # both halves of a layer; one token at a time and one image are further shapes


def test_auto_compiles_nothing_on_a_cpu_and_other_decoders_keep_transformers_layers(model):
    assert layer_parts("auto", model.model) == layer_parts("none", model.model) == LayerParts()
    opt = OPTForCausalLM(OPTConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=4, ffn_dim=48))
    assert layer_parts("compile", opt.model.decoder) == LayerParts() != layer_parts("compile", model.model)


def test_other_kernels_are_refused():
    with pytest.raises(ConfigError, match="kernels"):
        EvalConfig(name="x", model="y", source="z", kernels="fused")
