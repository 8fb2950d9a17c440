"""The tree of names equals one forward pass per name and gives the same best name, on three kinds of models."""

import random

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from configs.errors import ConfigError
from eval.benchmarks.reference_scoring import cached_loop, full_forward
from eval.class_scores.rules import Rule, class_scores
from eval.class_scores.trie import ClassTrie
from eval.models.class_likelihood.tree_attention import TreeAttention
from eval.models.class_likelihood.tree_forward import TreeForward
from eval.models.class_likelihood.tree_scorer import TreeScorer
from eval.models.decoder_input import DecoderInput
from train.models.embedded import Embedded

pytestmark = pytest.mark.usefixtures("unwritten_is_nan")
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 64}
PROMPTS = (9, 5, 9)  # tokens
RULES = [
    Rule("sum"),
    Rule("mean"),
    Rule("cfg", 3.0),
    Rule("cfg", 1.5, "probability"),
    Rule("sum", tokens="probability"),
    Rule("cfg", 2.0, "probability", True, "probability"),
]
MODELS = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES, intermediate_size=48, num_key_value_heads=2)),
    "mistral": lambda: MistralForCausalLM(MistralConfig(**SIZES, intermediate_size=48, num_key_value_heads=2)),
    "mistral, window of 7": lambda: MistralForCausalLM(
        MistralConfig(**SIZES, intermediate_size=48, num_key_value_heads=2, sliding_window=7)
    ),
    "qwen2, tied": lambda: Qwen2ForCausalLM(
        Qwen2Config(**SIZES, intermediate_size=48, num_key_value_heads=2, tie_word_embeddings=True)
    ),
    "opt": lambda: OPTForCausalLM(OPTConfig(**SIZES, ffn_dim=48, word_embed_proj_dim=32)),
}


def names() -> list[list[int]]:
    drawn = random.Random(0)
    return [[drawn.randrange(5, 12) for _ in range(drawn.randrange(1, 6))] for _ in range(30)]


@pytest.fixture(scope="module", params=MODELS)
def tree(request, widened):
    torch.manual_seed(0)
    model = widened(MODELS[request.param](), 0.3)
    decoder = model.model.decoder if request.param == "opt" else model.model
    return TreeForward(decoder, model.get_output_embeddings(), model.get_input_embeddings(), model.config)


@pytest.fixture(scope="module")
def prompts(tree):
    torch.manual_seed(1)
    longest = max(PROMPTS)
    mask = torch.tensor([[int(place >= longest - length) for place in range(longest)] for length in PROMPTS])
    return DecoderInput.of(Embedded(tree.words(torch.randint(5, 60, mask.shape)).detach()), mask)


def scored(tree, prompts, trie, group):
    scorer = TreeScorer(tree, group)
    with torch.inference_mode():
        values = scorer.log_probs(tree.prefill(prompts, room=2), trie)
    assert scorer.tokens_forwarded == len(PROMPTS) * len(trie.inner)
    return values


@pytest.mark.slow
@pytest.mark.parametrize("group", [1, 4, 1000])
def test_every_name_has_the_log_probabilities_of_a_separate_forward(tree, prompts, group):
    trie = ClassTrie(names())
    ours = scored(tree, prompts, trie, group)
    for row, length in enumerate(PROMPTS):
        alone = prompts.states[row : row + 1, -length:]
        for name, path in zip(names(), trie.paths, strict=True):
            assert ours[row, path] == pytest.approx(full_forward(tree, alone, name), abs=1e-4)


def test_the_authors_loop_with_a_restored_cache_agrees(tree, prompts):
    if tree.window is not None:
        pytest.skip("its cache of today keeps no more than the window")
    trie = ClassTrie(names())
    ours = scored(tree, prompts, trie, 1000)[0]
    for path, values in zip(trie.paths, cached_loop(tree, prompts.states[:1], names()), strict=True):
        assert ours[path] == pytest.approx(values, abs=1e-4)


def test_an_end_token_is_scored_as_one_more_token(tree, prompts):
    trie = ClassTrie(names(), eos=2)
    ours = scored(tree, prompts, trie, 1000)[0]
    assert ours[trie.paths[3]] == pytest.approx(full_forward(tree, prompts.states[:1], [*names()[3], 2]), abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("sharpness", [1.0, 0.05], ids=["peaked", "flat"])
@pytest.mark.parametrize("rows", [0, 15, 300], ids=["as on a CPU", "rounds of 15", "rounds of 300"])
def test_the_best_name_is_that_of_the_full_scores(tree, prompts, rule, sharpness, rows):
    trie = ClassTrie(names())
    calm = TreeForward(tree.decoder, _Scaled(tree.head, sharpness), tree.words, tree.decoder.config)
    log_probs = scored(calm, prompts, trie, 1000)
    prior = log_probs.mean(0)
    expected = class_scores(trie, rule, log_probs, prior)
    scorer = TreeScorer(calm, 4, rows)
    found = scorer.top1(calm.prefill(prompts, room=2), trie, rule, prior)
    assert [best.index for best in found] == list(expected.argmax(1))
    assert [best.score for best in found] == pytest.approx(list(expected.max(1)), abs=1e-5)
    assert scorer.tokens_forwarded == sum(best.nodes_expanded for best in found)


def test_a_round_sends_nodes_once_and_waits_once_and_full_rounds_are_fewer(tree, prompts):
    drawn = random.Random(1)
    trie = ClassTrie([[5 + first, *(drawn.randrange(5, 60) for _ in range(5))] for first in range(4)])
    counts = {}
    for rows in (0, 3 * 20):
        scorer = TreeScorer(tree, 1000, rows)
        prefix = tree.prefill(prompts, room=2)
        with Waits() as waits:
            scorer.top1(prefix, trie, Rule("mean"))
        assert scorer.transfers == waits.transfers == scorer.forwards + 1  # the first token is read after the prompt
        counts[rows] = scorer.forwards
    assert counts[60] == 1  # all 20 inner nodes
    assert counts[0] > 1


@pytest.mark.parametrize("group", [4, 1000])
def test_attention_in_two_parts_gives_the_same_log_probabilities(tree, prompts, group, monkeypatch):
    if tree.steps is None:
        pytest.skip("transformers runs the decoder")
    trie, even = ClassTrie(names()), DecoderInput.of(Embedded(prompts.states))
    expected = TreeScorer(tree, group).log_probs(tree.prefill(even, room=2), trie)
    kinds = []
    attend = TreeAttention.__call__
    monkeypatch.setattr(
        TreeAttention, "__call__", lambda self, *rest: (kinds.append(self.kind), attend(self, *rest))[1]
    )
    monkeypatch.setattr(tree, "splits_attention", True)
    assert TreeScorer(tree, group).log_probs(tree.prefill(even, room=2), trie) == pytest.approx(expected, abs=1e-5)
    assert set(kinds) == {"split"}
    padded = TreeScorer(tree, group).log_probs(tree.prefill(prompts, room=2), trie)  # padding needs the mask
    assert set(kinds) == {"split", "masked"}
    assert padded[0] == pytest.approx(expected[0], abs=1e-5)


def test_scoring_all_names_waits_for_the_device_once(tree, prompts):
    trie = ClassTrie(names())
    scorer = TreeScorer(tree, 4)
    prefix = tree.prefill(prompts, room=2)
    with Waits() as waits:
        scorer.log_probs(prefix, trie)
    assert scorer.forwards > 3
    assert waits.transfers == 1


class Waits(TorchDispatchMode):
    """Counts what makes a host wait for a GPU: results moved to it, and numbers or positions read from tensors.

    `double` stands for the move, which is not visible where all tensors are on the CPU.
    """

    READ = (torch.ops.aten._local_scalar_dense, torch.ops.aten.item, torch.ops.aten.nonzero)
    MOVE = (torch.ops.aten._to_copy.default, torch.ops.aten.to.dtype)

    def __init__(self):
        super().__init__()
        self.transfers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        moved = func in self.MOVE and torch.float64 in (*args, *(kwargs or {}).values())
        self.transfers += moved or func.overloadpacket in self.READ
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("rows", [0, 60])
@pytest.mark.parametrize("rule", [Rule("sum"), Rule("mean"), Rule("cfg", 2.0)], ids=["sum", "mean", "cfg"])
def test_of_equal_names_the_first_wins_however_wide_a_round_is(tree, prompts, rule, rows):
    """Tokens 20 and up are all alike to this head, so many names have exactly the same score."""
    drawn = random.Random(3)
    alike = [[20 + drawn.randrange(4) for _ in range(2)] for _ in range(12)]
    trie = ClassTrie(alike)
    same = TreeForward(tree.decoder, _Scaled(tree.head, 0.0), tree.words, tree.decoder.config)
    expected = class_scores(
        trie,
        rule,
        TreeScorer(same).log_probs(same.prefill(prompts, room=2), trie),
        no_prior(trie),
    )
    found = TreeScorer(same, 1000, rows).top1(same.prefill(prompts, room=2), trie, rule, no_prior(trie))
    assert [best.index for best in found] == list(expected.argmax(1)) == [0] * len(PROMPTS)


def no_prior(trie):
    return np.zeros(len(trie.tokens))


def test_the_search_falls_back_where_it_does_not_pay(tree, prompts):
    trie = ClassTrie(names())
    flat = TreeForward(tree.decoder, _Scaled(tree.head, 0.0), tree.words, tree.decoder.config)
    found = TreeScorer(flat, 100).top1(flat.prefill(prompts, room=2), trie, Rule("mean"))
    assert all(best.whole_tree for best in found)


class _Scaled(torch.nn.Module):
    """A head whose logits are `scale` times another's: small scales make all names alike."""

    def __init__(self, head, scale):
        super().__init__()
        self.head, self.scale = head, scale

    def forward(self, states):
        return self.head(states) * self.scale


def test_models_that_the_tree_does_not_fit_are_refused():
    model = MODELS["llama"]()
    parts = model.model, model.lm_head, model.model.embed_tokens
    model.config._attn_implementation = "flash_attention_2"
    with pytest.raises(ConfigError, match="set attention=sdpa"):
        TreeForward(*parts, model.config)
    model.config._attn_implementation = "sdpa"
    model.config.layer_types = ["full_attention", "sliding_attention"]
    with pytest.raises(ConfigError, match="mixes kinds"):
        TreeForward(*parts, model.config)


def test_the_search_prefers_the_first_of_equal_names():
    trie = ClassTrie([[6], [5], [5]])
    assert np.argmax(class_scores(trie, Rule("sum"), np.array([-1.0, -1.0]))) == 0
