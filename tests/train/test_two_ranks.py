"""Real DeepSpeed on two real ranks: one launch, many claims (see distributed_matrix.py for what the ranks do)."""

import functools
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from tests.train.distributed_matrix import PROBE
from train.data.collate import collate
from train.models.linear_probe import attach_probe
from train.models.loading import load_model
from train.models.loss_module import LossModule
from train.models.param_groups import choose_trainable, parameter_groups
from train.plan import RunPlan, make_plan

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).with_name("distributed_matrix.py")


@pytest.fixture(scope="module")
def results(training_setup, deepspeed, tmp_path_factory) -> dict[str, Any]:
    output = tmp_path_factory.mktemp("ranks") / "results.json"
    command = deepspeed(SCRIPT, training_setup.config_file("two_ranks"), output)
    done = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return json.loads(output.read_text())


RESUME_CELLS = [
    f"resume {mode} {dtype} zero-{stage}"
    for mode in ("projector", "lora")
    for dtype in ("fp32", "bf16")
    for stage in (0, 1, 2, 3)
]


@pytest.mark.parametrize("cell", RESUME_CELLS)
def test_a_restored_engine_continues_bit_for_bit(results, cell):
    straight, resumed = results[cell]["straight"], results[cell]["resumed"]
    assert resumed == straight[2:]
    assert straight[2] != straight[3], "two steps differ, so the comparison could have failed"


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_all_zero_stages_see_the_same_losses(results, dtype):
    tolerance = 1e-6 if dtype == "fp32" else 5e-3
    losses = [
        [float.fromhex(loss) for loss, _ in results[f"resume projector {dtype} zero-{stage}"]["straight"]]
        for stage in (0, 1, 2, 3)
    ]
    for other in losses[1:]:
        assert other == pytest.approx(losses[0], rel=tolerance)


Reference = tuple[list[tuple[float, float]], dict[str, torch.Tensor]]  # losses and norms, weights


@pytest.fixture(scope="module")
def reference(training_setup, results) -> Callable[[str], Reference]:
    """What plain PyTorch makes of a reduction, each worked out once."""
    plan = make_plan(training_setup.config("two_ranks"), 1, "cpu")
    return functools.cache(lambda reduction: plain_steps(plan, results["lopsided"], reduction))


def plain_steps(plan: RunPlan, batches: list[list[int]], reduction: str) -> Reference:
    """The same two steps in one process, one sample at a time, with nothing of our loss code."""
    loaded = load_model(str(plan.folder), None, "fp32", "sdpa")
    choose_trainable(loaded.model, plan.family, plan.config.model, plan.config.optim)
    module = LossModule(loaded.model, plan.family)
    trained = {name: p for name, p in loaded.model.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(trained.values(), lr=plan.config.optim.lr_projector, weight_decay=0.0)
    examples = plan.training_batches().examples
    seen = []
    for positions in batches:
        token_losses = [sample_losses(module, collate([examples[p]], plan.family)) for p in positions]
        if reduction == "token":
            loss = torch.cat(token_losses).mean()
        elif reduction == "sample":
            loss = torch.stack([losses.mean() for losses in token_losses]).mean()
        else:  # micro-batches of 2, dealt as rank 0: 0 2 | 4 6, rank 1: 1 3 | 5 7
            groups = [(0, 2), (4, 6), (1, 3), (5, 7)]
            loss = torch.stack([torch.cat([token_losses[i] for i in group]).mean() for group in groups]).mean()
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(trained.values(), plan.config.optim.clip_norm)
        optimizer.step()
        seen.append((loss.item(), norm.item()))
    return seen, {name: p.detach() for name, p in trained.items()}


def sample_losses(module: LossModule, batch) -> torch.Tensor:
    """Cross entropy of each supervised token of one conversation, from the full logits."""
    hidden = module.model.model.language_model(inputs_embeds=module._embeddings(batch).states).last_hidden_state
    logits = module.model.lm_head(hidden)[0, :-1]
    labels = batch.labels[0, 1:]
    return F.cross_entropy(logits[labels != -100], labels[labels != -100], reduction="none")


@pytest.mark.parametrize("stage", [0, 2, 3])
@pytest.mark.parametrize("micro_batch", [4, 2])
def test_ranks_and_accumulation_do_not_change_the_update_even_where_one_rank_has_no_image(
    results, reference, stage, micro_batch
):
    compare(results[f"split zero-{stage} micro-{micro_batch} token"], *reference("token"))


@pytest.mark.parametrize("reduction", ["sample", "micro_batch"])
def test_each_normalisation_equals_its_plain_definition(results, reference, reduction):
    compare(results[f"split zero-0 micro-2 {reduction}"], *reference(reduction))
    assert reference(reduction)[0] != reference("token")[0], (
        "the normalisations differ, so the comparison could have failed"
    )


def compare(cell: dict[str, Any], seen: list[tuple[float, float]], weights: dict[str, torch.Tensor]) -> None:
    for (loss, norm), (expected_loss, expected_norm) in zip(cell["seen"], seen, strict=True):
        assert float.fromhex(loss) == pytest.approx(expected_loss, rel=2e-6)
        assert float.fromhex(norm) == pytest.approx(expected_norm, rel=2e-5)
    for name, expected in weights.items():
        got = torch.tensor(cell["weights"][name]).reshape(expected.shape)
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("cell", ["probe zero-0", "probe packed", "probe zero-3"])
def test_a_linear_probe_trains_as_in_one_process_and_resumes_bit_for_bit(training_setup, results, cell):
    plan = make_plan(training_setup.config("two_ranks", *PROBE), 1, "cpu")
    loaded = load_model(str(plan.folder), None, "fp32", "sdpa")
    choose_trainable(loaded.model, plan.family, plan.config.model, plan.config.optim)
    attach_probe(loaded.model, plan.family, len(plan.probe_classes.names), plan.config.seed)
    module, examples = LossModule(loaded.model, plan.family), plan.training_batches().examples
    optimizer = torch.optim.AdamW(parameter_groups(loaded.model, plan.family, plan.config.optim))
    trained = {name: p for name, p in loaded.model.named_parameters() if p.requires_grad}
    expected = []
    for positions in results["lopsided"]:
        batch = collate([examples[position] for position in positions], plan.family)
        assert sorted((batch.probe_classes >= 0).tolist()) == [False] * 4 + [True] * 4
        batch.weights = (batch.labels != -100) / batch.supervised().sum()
        batch.probe_weights = torch.full((8,), 0.5 / 4)
        optimizer.zero_grad()
        loss = module(batch)[0]
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(trained.values(), plan.config.optim.clip_norm)
        optimizer.step()
        expected.append((loss.item(), norm.item()))
    compare(results[cell], expected, {name: p.detach() for name, p in trained.items()})
    assert results[cell]["resumed"] == results[cell]["seen"][1]
    assert {name for name in trained if name.startswith("linear_probe.")} == {
        "linear_probe.token.vector",
        "linear_probe.head.weight",
        "linear_probe.head.bias",
    }


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_small_buckets_that_overlap_with_the_backward_pass_give_the_same_bits(results, stage):
    one, many = results[f"buckets zero-{stage} False"], results[f"buckets zero-{stage} True"]
    assert one["settings"] == [one["trained"], False], "one bucket that holds all gradients"
    assert many["settings"] == [400, True]
    assert (one["seen"], one["weights"]) == (many["seen"], many["weights"])


@pytest.mark.parametrize("mode", ["projector", "lora"])
@pytest.mark.parametrize("cell", ["grouped {} zero-0", *(f"packed {{}} zero-{stage}" for stage in (0, 1, 2, 3))])
def test_another_batching_gives_the_same_losses_gradients_and_weights(results, mode, cell):
    padded, other = results[f"padded {mode} zero-0"], results[cell.format(mode)]
    for (loss, norm), (expected_loss, expected_norm) in zip(other["seen"], padded["seen"], strict=True):
        assert float.fromhex(loss) == pytest.approx(float.fromhex(expected_loss), rel=1e-5)
        assert float.fromhex(norm) == pytest.approx(float.fromhex(expected_norm), rel=1e-5)
    for name, expected in padded["weights"].items():
        torch.testing.assert_close(torch.tensor(other["weights"][name]), torch.tensor(expected), rtol=1e-4, atol=2e-5)


def test_packed_steps_differ_in_their_number_of_micro_batches(results):
    first, second = results["packed lora zero-2"]["micro_batches"]
    assert first < second


@pytest.mark.parametrize("batching", ["padded", "grouped", "packed"])
@pytest.mark.parametrize("stage", [0, 1, 2, 3])
@pytest.mark.parametrize("mode", ["projector", "lora"])
def test_skipped_work_changes_no_gradient_in_any_stage(results, mode, stage, batching):
    cell = results[f"savings {mode} zero-{stage}"][batching]
    assert max(cell["gradients"]) < 1e-5
    assert max(cell["norms"]) < 1e-5
    assert max(cell["gradients"]) > 0, "two ways to compute them differ by rounding"
    assert min(cell["smallest"]) > 0, "every trained parameter has a gradient"
