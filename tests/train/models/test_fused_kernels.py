"""Fused layers: as exact as unfused ones against fp32, and compiled once for all shapes."""

import importlib.util
import itertools
import math
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch._inductor import config as inductor

from train.data.collate import collate, pack
from train.loss import local_denominator, set_loss_weights
from train.models import layer_parts
from train.models.checkpointing import checkpoint_activations
from train.models.compile_probe import TOKENS
from train.models.layer_parts import LayerParts, as_written, compile_layers
from train.models.loading import load_model
from train.models.loss_module import LossModule
from train.models.param_groups import choose_trainable
from train.models.target_states import ForwardOptions
from train.plan import make_plan

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
needs_liger = pytest.mark.skipif(
    not (importlib.util.find_spec("liger_kernel") and (DEVICE == "cuda" or INTERPRETED)),
    reason="needs liger-kernel, and a GPU or TRITON_INTERPRET=1",
)

FACTOR = math.sqrt(2)
"""Most error of a fused bf16 run against fp32, for each 1 of the unfused one.

Fused or not, the products are the same and round to bf16. In between, a fused kernel computes in fp32 what the unfused
ones round after each operation. Were its roundings as many and independent, the two errors would be alike; were they
added to all of the unfused ones, which is the worst, the variance would double.
"""


@pytest.fixture(scope="module")
def plan(training_setup):
    return make_plan(training_setup.config("fused"), 1, "cpu")


@pytest.fixture(scope="module")
def liger():
    """Liger's kernels can run: on a GPU, or in Triton's interpreter."""
    if INTERPRETED:
        file = Path(__file__).with_name("triton_interpreter.py")
        spec = importlib.util.spec_from_file_location("triton_interpreter", file)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        module.correct()


@pytest.fixture(autouse=True)
def fresh_compiler():
    yield
    torch._dynamo.reset()


def module_of(plan, mode, dtype, kernels="none", checkpointing=False, skip_unneeded_compute=True):
    """A loss module whose weights are the same for every dtype: those of bf16."""
    torch.manual_seed(0)
    loaded = load_model(str(plan.folder), None, dtype, "sdpa", DEVICE)
    choose_trainable(loaded.model, plan.family, replace(plan.config.model, mode=mode), plan.config.optim)
    if checkpointing:
        checkpoint_activations(loaded.model)
    for name, parameter in loaded.model.named_parameters():
        if "lora_B" in name:  # it starts at zero: its A would get no gradient
            torch.nn.init.normal_(parameter, std=0.05)
        parameter.data = parameter.data.bfloat16().to(parameter.dtype)
    for part in loaded.model.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    options = ForwardOptions(plan.example_builder.prefix, skip_unneeded_compute, kernels=kernels)
    return LossModule(loaded.model, plan.family, options).to(DEVICE).train()


def batches_of(plan, *sizes, kind="padded"):
    """Batches of so many examples, those with and without an image in turns."""
    with_image = plan.sources.with_image()
    pictures, texts = np.flatnonzero(with_image).tolist(), np.flatnonzero(~with_image).tolist()
    mixed = [position for pair in zip(pictures, itertools.cycle(texts), strict=False) for position in pair]
    examples = iter([plan.training_batches().examples[position] for position in mixed[: sum(sizes)]])
    join = pack if kind == "packed" else collate
    batches = [join([next(examples) for _ in range(size)], plan.family, plan.example_builder.prefix) for size in sizes]
    denominator = local_denominator(batches, "token")
    for batch in batches:
        set_loss_weights(batch, "token", denominator, 1.0)
    return [batch.to(DEVICE) for batch in batches]


def run(module, batches):
    """Cross entropy of each conversation (C,), and the gradient of each trained parameter, in fp32."""
    module.zero_grad()
    losses = []
    for batch in batches:
        loss, by_sample = module(batch)
        loss.backward()
        losses.append(by_sample)
    gradients = {name: p.grad.float() for name, p in module.model.named_parameters() if p.grad is not None}
    return {"loss": torch.cat(losses).float()} | gradients


def errors(found, reference):
    """|found - reference| / |reference| by name, and of all gradients together."""
    assert found.keys() == reference.keys()
    squares = {
        name: ((found[name] - r).square().sum().item(), r.square().sum().item()) for name, r in reference.items()
    }
    gradients = [pair for name, pair in squares.items() if name != "loss"]
    squares["all gradients"] = tuple(map(sum, zip(*gradients, strict=True)))
    return {name: math.sqrt(error / size) for name, (error, size) in squares.items() if size}


def assert_as_exact(plan, mode, kernels, batches):
    reference = run(module_of(plan, mode, "fp32"), batches)
    unfused = errors(run(module_of(plan, mode, "bf16"), batches), reference)
    fused = errors(run(module_of(plan, mode, "bf16", kernels), batches), reference)
    for name, error in fused.items():
        print(f"{mode} {name}: error in bf16 {error:.2e} with {kernels}, {unfused[name]:.2e} with none")
    assert 0 < unfused["all gradients"] < 0.5, "rounding, not another result"
    for name, error in fused.items():
        assert error <= FACTOR * unfused[name], name


@pytest.mark.slow
def test_compiled_layers_are_as_exact_as_unfused_ones_against_fp32(plan):
    with inductor.patch(compile_threads=1):  # no processes that import torch
        assert_as_exact(plan, "full", "compile", batches_of(plan, 4, 3))


@needs_liger
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["padded", "packed"])
@pytest.mark.parametrize("mode", ["projector", "lora", "full"])
def test_ligers_kernels_are_as_exact_as_unfused_ones_against_fp32(plan, liger, mode, kind):
    assert_as_exact(plan, mode, "liger", batches_of(plan, 3, 1, kind=kind))


class Graphs(list):
    """A compiler that runs each graph as it is and keeps it."""

    def __call__(self, graph, inputs):
        self.append(graph)
        return graph.forward


def step(module, batches, *, training):
    module.train(training)
    for batch in batches:
        with torch.set_grad_enabled(training):
            loss, _ = module(batch)
        if training:
            loss.backward()


def all_shapes(plan, *sizes, packed):
    """Padded batches of so many rows and packed ones of so many conversations, with and without the shared prefix."""
    batches = [*batches_of(plan, *sizes), *batches_of(plan, *packed, kind="packed")]
    assert all(batch.shared_prefix for batch in batches)
    return [*batches, *(replace(batch, shared_prefix=0) for batch in batches)]


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "checkpointing", "own_loop"), [("lora", True, True), ("projector", False, False)])
def test_nothing_is_compiled_again_when_lengths_batch_sizes_or_packing_change(plan, mode, checkpointing, own_loop):
    graphs = Graphs()
    module = module_of(plan, mode, "fp32", checkpointing=checkpointing, skip_unneeded_compute=own_loop)
    module.states.parts = LayerParts.compiled(graphs)
    compile_layers(module.model, graphs)
    assert module.states.runs_own_decoder_loop(packed=True) is own_loop
    first, changed = all_shapes(plan, 3, 1, packed=[2]), all_shapes(plan, 4, 2, 5, 1, 3, 1, packed=[4, 3, 1])
    for training in (True, False):
        step(module, first, training=training)
    compiled = len(graphs)
    assert 0 < compiled <= (16 if own_loop else 10), "of one row or several, in training or not, by attention's layout"
    assert len({batch.input_ids.shape for batch in changed}) > 6
    for training in (True, False, True):
        step(module, changed, training=training)
    assert len(graphs) == compiled


def hints(value):
    """Sizes that a compiler sees of a graph's input."""
    sizes = value.shape if isinstance(value, torch.Tensor) else [value]
    return tuple(size.node.hint if isinstance(size, torch.SymInt) else size for size in sizes)


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "checkpointing"), [("lora", True), ("projector", False)])
def test_what_is_compiled_does_not_depend_on_the_first_batch_nor_draws_random_numbers(plan, mode, checkpointing):
    seen = []
    module = module_of(plan, mode, "fp32", checkpointing=checkpointing)
    for part in module.model.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.1
    batches = batches_of(plan, 3, 2)
    expected = []
    for batch in batches:
        torch.manual_seed(5)
        expected.append(run(module, [batch]))
    for first in (0, 1):
        torch._dynamo.reset()
        graphs = Graphs()
        module.states.parts = LayerParts.compiled(graphs)
        for number in (first, 1 - first):
            torch.manual_seed(5)
            found = run(module, [batches[number]])
            assert max(errors(found, expected[number]).values()) < 1e-6
        placeholders = [[node for node in graph.graph.nodes if node.op == "placeholder"] for graph in graphs]
        seen.append([[hints(node.meta["example_value"]) for node in nodes] for nodes in placeholders])
    assert batches[0].input_ids.shape != batches[1].input_ids.shape
    assert seen[0] == seen[1]
    assert all(any(TOKENS in size for size in sizes) for sizes in seen[0])


@pytest.mark.slow
@pytest.mark.parametrize("own_loop", [True, False])
def test_compiled_graphs_give_the_gradients_of_the_layers_as_written(plan, own_loop):
    graphs = Graphs()
    batches = [*batches_of(plan, 3, 1, 2), *batches_of(plan, 3, kind="packed")]
    module = module_of(plan, "lora", "fp32", skip_unneeded_compute=own_loop)
    expected = run(module, batches)
    module.states.parts = LayerParts.compiled(graphs)
    compile_layers(module.model, graphs)
    found = run(module, batches)
    assert graphs
    assert max(errors(found, expected).values()) < 1e-6
    compiled = len(graphs)
    torch._dynamo.reset()
    with as_written(module.model):
        run(module, batches[:1])
    assert len(graphs) == compiled, "transformers' side of a comparison is not compiled"


def test_a_model_compared_with_transformers_gets_its_fused_norms_back(plan):
    decoder = plan.family.decoder(module_of(plan, "projector", "fp32").model)
    norms = [layer.input_layernorm for layer in decoder.layers]
    written = norms[0].forward.__func__
    for norm in norms:
        layer_parts.fuse_norm(norm)
    model = torch.nn.ModuleList(norms)
    assert norms[0].forward.__func__ is not written
    with pytest.raises(RuntimeError, match="interrupted"), as_written(model):
        assert all(norm.forward.__func__ is written for norm in norms)
        raise RuntimeError("interrupted")
    assert all(norm.forward.__func__ is layer_parts._liger_norm for norm in norms)
    assert norms[0].state_dict().keys() == {"weight"}


@pytest.mark.slow
@pytest.mark.parametrize("kernel", ["sdpa", "flash_attention_2"])
def test_flash_attention_within_transformers_layers_is_not_compiled(plan, kernel):
    module = module_of(plan, "projector", "fp32")
    decoder = plan.family.decoder(module.model)
    decoder.config._attn_implementation = kernel
    LossModule(module.model, plan.family, ForwardOptions(kernels="compile"))
    compiled = {name for name, part in module.model.named_modules() if part._compiled_call_impl is not None}
    assert any("vision_tower" in name for name in compiled)
    assert any("language_model.layers" in name for name in compiled) is (kernel == "sdpa")
