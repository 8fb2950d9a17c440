"""Greedy answers are transformers' own, on every kind of decoder, and no row is decoded beyond its end."""

from functools import cache
from itertools import combinations

import pytest
import torch
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

from eval.benchmarks.generation import _parser
from eval.benchmarks.generation_speed import as_text, benchmark
from eval.models.decoder_input import DecoderInput
from eval.models.greedy import Greedy, LanguageModel, Stop
from eval.models.llama_decoder import LlamaSteps
from eval.models.question_prefill import common_beginning
from train.models.embedded import Embedded

pytestmark = pytest.mark.usefixtures("unwritten_is_nan")
IMAGE = 63  # the token that stands for the image
LIMIT = 14
SIZES = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "vocab_size": 64, "eos_token_id": 2}
ROPE = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
MODELS = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES, intermediate_size=48)),
    "llama, grouped heads": lambda: LlamaForCausalLM(LlamaConfig(**SIZES, intermediate_size=48, num_key_value_heads=2)),
    "llama, dynamic angles": lambda: LlamaForCausalLM(
        LlamaConfig(**SIZES, intermediate_size=48, rope_parameters=ROPE, max_position_embeddings=256)
    ),
    "mistral": lambda: MistralForCausalLM(
        MistralConfig(**SIZES, intermediate_size=48, num_key_value_heads=4, sliding_window=None)
    ),
    "mistral, window of 7": lambda: MistralForCausalLM(
        MistralConfig(**SIZES, intermediate_size=48, num_key_value_heads=4, sliding_window=7)
    ),
    "mistral, window of 64": lambda: MistralForCausalLM(
        MistralConfig(**SIZES, intermediate_size=48, num_key_value_heads=4, sliding_window=64)
    ),
    "qwen2, tied": lambda: Qwen2ForCausalLM(
        Qwen2Config(**SIZES, intermediate_size=48, num_key_value_heads=2, tie_word_embeddings=True)
    ),
    "opt": lambda: OPTForCausalLM(OPTConfig(**SIZES, ffn_dim=48, word_embed_proj_dim=32)),
}
STEPWISE = {"llama", "llama, grouped heads", "mistral", "mistral, window of 64", "qwen2, tied"}


@pytest.fixture(scope="module", params=MODELS)
def made(request, widened):
    torch.manual_seed(0)
    return request.param, widened(MODELS[request.param](), 0.25)


def greedy_of(model, *, ahead: bool = False) -> Greedy:
    decoder = model.get_decoder()
    parts = LanguageModel(decoder, model.get_output_embeddings(), model.get_input_embeddings(), model.config)
    return Greedy(parts, IMAGE, ahead=ahead)


def questions(model, count: int, *, seed: int = 1, even: bool = False) -> tuple[list[list[int]], list[torch.Tensor]]:
    """Ids and embeddings of questions that begin alike, every third without an image."""
    drawn = torch.Generator().manual_seed(seed)
    system = [1, 5, 6, 7, 8]
    ids, embeddings = [], []
    for number in range(count):
        words = torch.randint(9, 60, (4 if even else 2 + number % 4,), generator=drawn).tolist()
        ids.append([*system, *([] if number % 3 == 2 and not even else [IMAGE] * 6), *words])
        states = model.get_input_embeddings()(torch.tensor(ids[-1])).detach()
        image = torch.tensor(ids[-1]) == IMAGE
        states[image] = torch.randn(int(image.sum()), states.shape[1], generator=drawn)
        embeddings.append(states)
    return ids, embeddings


def answers(greedy: Greedy, ids, embeddings, stop: Stop) -> list[list[int]]:
    longest = max(map(len, ids))
    padded = torch.stack([torch.cat([states.new_ones(longest - len(states), 32), states]) for states in embeddings])
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in ids])
    return greedy.answers(ids, DecoderInput.of(Embedded(padded), mask), stop)


def plain_answer(model, states: torch.Tensor, stop: Stop) -> list[int]:
    """One question through transformers' own generate."""
    output = model.generate(
        inputs_embeds=states[None],
        attention_mask=torch.ones(1, len(states), dtype=torch.long),
        do_sample=False,
        max_new_tokens=stop.limit,
        eos_token_id=sorted(stop.ends),
        pad_token_id=0,
    )
    return output[0].tolist()


def some_ends(model, embeddings) -> Stop:
    """Two end tokens with which answers end at as many different steps as can be."""
    free = [plain_answer(model, states, Stop(frozenset({1000}), LIMIT)) for states in embeddings]

    def different(ends: tuple[int, ...]) -> int:
        return len({next((place for place, token in enumerate(row) if token in ends), LIMIT) for row in free})

    return Stop(frozenset(max(combinations(sorted({token for row in free for token in row}), 2), key=different)), LIMIT)


@pytest.fixture(scope="module")
def reference(made):
    """`reference(count, even)`: ids and embeddings of questions, their ends, and transformers' answers to them."""
    _, model = made

    @cache
    def of(count: int, even: bool):
        ids, embeddings = questions(model, count, even=even)
        stop = some_ends(model, embeddings)
        return ids, embeddings, stop, [plain_answer(model, states, stop) for states in embeddings]

    return of


@pytest.mark.slow
@pytest.mark.parametrize("ahead", [False, True], ids=["as on a CPU", "as on a GPU"])
@pytest.mark.parametrize("even", [False, True], ids=["mixed lengths", "one length"])
def test_tokens_are_those_of_transformers_generate_in_batches_of_1_5_and_8(made, reference, even, ahead):
    name, model = made
    ids, embeddings, stop, expected = reference(8, even)
    assert len({len(row) for row in expected}) > 2  # rows do end at different steps
    for batch in (1, 5, 8):
        greedy = greedy_of(model, ahead=ahead)
        assert (greedy.steps is not None) == (name in {*STEPWISE, "mistral, window of 7"})
        ours = []
        for start in range(0, 8, batch):
            ours += answers(greedy, ids[start : start + batch], embeddings[start : start + batch], stop)
        assert ours == expected, f"batches of {batch}"


@pytest.mark.slow
def test_a_row_that_has_ended_is_not_decoded_on(made, reference):
    name, model = made
    ids, embeddings, stop, _ = reference(8, False)
    greedy = greedy_of(model)
    ours = answers(greedy, ids, embeddings, stop)
    needed = sum(len(row) - 1 for row in ours)
    held = 8 * (max(map(len, ours)) - 1)  # without dropping rows
    assert needed < held
    assert greedy.row_steps == needed if name in STEPWISE else needed <= greedy.row_steps < held


@pytest.mark.slow
@pytest.mark.parametrize("ahead", [False, True], ids=["as on a CPU", "as on a GPU"])
def test_only_the_row_whose_output_is_not_finite_is_lost(made, reference, ahead):
    """Not tried on the first row: all rows share its beginning."""
    _, model = made
    ids, embeddings, stop, plain = reference(5, False)
    for lost in range(1, 5):
        damaged = [states.clone() for states in embeddings]
        damaged[lost][-3:] = torch.nan
        expected = [None if row == lost else tokens for row, tokens in enumerate(plain)]
        greedy = greedy_of(model, ahead=ahead)
        assert answers(greedy, ids, damaged, stop) == expected
        assert answers(greedy, ids, embeddings, stop) == plain, "what is lost does not reach the next batch"


def test_the_common_beginning_goes_through_the_model_once_a_run(monkeypatch):
    torch.manual_seed(0)
    model = MODELS["llama"]().eval()
    forwarded: list[int] = []
    prefill = LlamaSteps.prefill

    def counting(self, states, lengths, keys):
        forwarded.append(sum(lengths))
        return prefill(self, states, lengths, keys)

    monkeypatch.setattr(LlamaSteps, "prefill", counting)
    greedy = greedy_of(model)
    for seed in (1, 2):
        ids, embeddings = questions(model, 4, seed=seed)
        answers(greedy, ids, embeddings, Stop(frozenset(), 2))
    rest = sum(map(len, ids)) - 4 * 5
    assert forwarded == [5, rest, rest]  # the system prompt's 5 tokens, then both batches without them


def test_a_run_with_another_system_prompt_does_not_see_the_old_one():
    torch.manual_seed(0)
    model = MODELS["llama"]().eval()
    greedy, stop = greedy_of(model), Stop(frozenset(), 6)
    ids, embeddings = questions(model, 3)
    answers(greedy, ids, embeddings, stop)
    others = [[1, 50, *row[2:]] for row in ids]
    changed = [torch.cat([model.get_input_embeddings()(torch.tensor([1, 50])), own[2:]]).detach() for own in embeddings]
    assert answers(greedy, others, changed, stop) == [plain_answer(model, states, stop) for states in changed]


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ([[1, 5, 6, 9, 9, 7], [1, 5, 8, 9, 9]], [1, 5]),
        ([[1, 9, 9, 4], [1, 9, 9, 4]], [1]),  # up to the image
        ([[9, 9, 1, 4], [9, 9, 1, 5]], []),
        ([[1, 2, 3]], [1, 2]),  # the last token is left to do
        ([[1, 2, 3], [1, 2]], [1]),
        ([[1], [1, 2]], []),
    ],
)
def test_what_all_questions_begin_with(ids, expected):
    assert common_beginning(ids, image_token=9) == expected


@pytest.mark.slow
def test_both_sides_of_the_benchmark_say_the_same():
    small = ["--hidden", "128", "--layers", "2", "--image-tokens", "6", "--batch", "4", "--runs", "1"]
    result = benchmark(_parser().parse_args(small))
    for kind in ("names", "open"):
        row = result[kind]
        assert row["same_tokens"]
        assert row["lengths_as_planned"]
        assert row["row_steps"] == row["row_steps_needed"]
    assert "the same tokens" in as_text(result)


class Replayed:
    """A recording as a GPU makes one: what the function held when it was recorded, results in the same tensors."""

    def __init__(self, function, inputs):
        self.function, self.inputs = function, tuple(tensor.clone() for tensor in inputs)
        self.outputs = function(*self.inputs)
        self.graph = self

    def replay(self):
        for held, new in zip(self.outputs, self.function(*self.inputs), strict=True):
            held.copy_(new)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llama", "llama, grouped heads"])
def test_replayed_steps_give_the_same_tokens_in_batches_of_changing_size(name, widened, monkeypatch):
    torch.manual_seed(0)
    model = widened(MODELS[name](), 0.25)
    greedy = greedy_of(model, ahead=True)
    made = []

    def record(function, inputs):
        made.append(Replayed(function, inputs))
        return made[-1]

    monkeypatch.setattr(greedy._calls, "records", True)
    monkeypatch.setattr(greedy._calls, "_record", record)
    monkeypatch.setattr("eval.models.greedy._reader", lambda tokens: tokens.clone().tolist)
    steps = 0
    for seed, count in enumerate((8, 3, 8, 5, 1, 8)):
        ids, embeddings = questions(model, count, seed=seed)
        stop = some_ends(model, embeddings)
        assert answers(greedy, ids, embeddings, stop) == [plain_answer(model, states, stop) for states in embeddings]
        steps += LIMIT
    assert 0 < len(made) < steps / 4
