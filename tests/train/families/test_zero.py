"""Two ranks in every ZeRO stage see the loss and the gradient norm of one process, in fp32 and bf16."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.train.distributed_matrix import lopsided
from tests.train.families.cases import ALL
from tests.train.families.conftest import Item, TrainedFamily, joined

pytestmark = pytest.mark.slow

STAGES, DTYPES = (0, 1, 2, 3), ("fp32", "bf16")
MODE = "model.mode=full"
WHOLE = "train.micro_batch=4"  # a rank's part of the global batch: accumulation is the same for all families
FULL = (MODE, WHOLE)
SCOPE = ["model.mode=lora", "model.lora.scope=[language,projector,vision]"]
ADAPTERS = {
    "rslora": [*SCOPE, "model.lora.variant=rslora"],
    "dora": [*SCOPE, "model.lora.variant=dora"],
    "pissa": [*SCOPE, "model.lora.variant=pissa"],
    "selective": ["model.mode=selective", "model.selective=multi_modal_projector|self_attn"],
}
"""What LLaVA trains in further cells, in fp32."""


GRIDS = {
    name: [("fp32", 0), ("fp32", 3), ("bf16", 3)]
    if case.variant
    else [(dtype, stage) for dtype in DTYPES for stage in STAGES]
    for name, case in ALL.items()
}
"""Precisions and stages of each case; the stages 1 and 2 split no weights, so nothing of a language model differs."""


def stages_of(way: str) -> tuple[int, ...]:
    """Without weights split, with split gradients, and with split weights; DoRA is refused there."""
    return (0, 2) if way == "dora" else (0, 3)


def cell_name(family: str, dtype: str, stage: int) -> str:
    return f"{family} {dtype} zero-{stage}"


@pytest.fixture(scope="session")
def results(family_of_case, deepspeed, tmp_path_factory) -> dict[str, list[tuple[float, float]]]:
    """Loss and gradient norm of two steps, by cell."""
    folder = tmp_path_factory.mktemp("family_ranks")
    cells: dict[str, Any] = {}
    for name, grid in GRIDS.items():
        trained = family_of_case(name)
        file = trained.config_file(f"ranks_{name}")
        for dtype, stage in grid:
            cells[cell_name(name, dtype, stage)] = (str(file), [*trained.case.settings, *FULL], dtype, stage)
    trained = family_of_case("llava")
    for way, settings in ADAPTERS.items():
        for stage in stages_of(way):
            cell = (str(trained.config_file("ranks_llava")), [*trained.case.settings, WHOLE, *settings], "fp32", stage)
            cells[cell_name(way, "fp32", stage)] = cell
    (folder / "cells.json").write_text(json.dumps(cells))
    command = deepspeed(Path(__file__).with_name("ranks.py"), folder / "cells.json", folder / "results.json")
    done = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    found = json.loads((folder / "results.json").read_text())
    return {name: [(float.fromhex(a), float.fromhex(b)) for a, b in steps] for name, steps in found.items()}


def first_step_of_transformers(trained: TrainedFamily) -> tuple[float, float]:
    """Loss and gradient norm of the first step's eight conversations in one batch, by transformers alone."""
    plan = trained.plan(MODE)
    chosen = []
    for position in lopsided(plan)[0]:
        sample = plan.sources.sample(position)
        question, answer = (turn.text.replace("<image>", "").strip() for turn in sample.turns)
        chosen.append(Item([(question, answer)], sample.image))
    model = trained.theirs(plan, trained.ours(plan).model)
    batch = joined([trained.inputs(item) for item in chosen], [trained.expected(item)[1] for item in chosen])
    loss = model(**batch).loss
    loss.backward()
    norms = [parameter.grad.norm() for parameter in model.parameters() if parameter.grad is not None]
    return loss.item(), torch.stack(norms).norm().item()


@pytest.fixture(params=GRIDS)
def ranked(request, family_of_case) -> TrainedFamily:
    """Each family, and each variant of one."""
    return family_of_case(request.param)


def test_in_fp32_every_stage_has_transformers_loss_and_gradient_norm(ranked, results):
    expected = first_step_of_transformers(ranked)
    for dtype, stage in GRIDS[ranked.case.name]:
        if dtype == "fp32":
            steps = results[cell_name(ranked.case.name, dtype, stage)]
            assert steps[0] == pytest.approx(expected, rel=1e-5)
            assert steps[0] != steps[1]


@pytest.mark.parametrize("dtype", DTYPES)
def test_after_an_update_all_stages_see_the_same_loss(ranked, results, dtype):
    name = ranked.case.name
    second = [results[cell_name(name, kind, stage)][1] for kind, stage in GRIDS[name] if kind == dtype]
    for loss, norm in second[1:]:
        assert loss == pytest.approx(second[0][0], rel=1e-5 if dtype == "fp32" else 5e-3)
        assert norm == pytest.approx(second[0][1], rel=1e-3 if dtype == "fp32" else 5e-2)


def test_bf16_is_close_to_fp32(ranked, results):
    name = ranked.case.name
    in_fp32 = results[cell_name(name, "fp32", 0)][0]
    for dtype, stage in GRIDS[name]:
        if dtype == "bf16":
            assert results[cell_name(name, dtype, stage)][0] == pytest.approx(in_fp32, rel=5e-2)


def test_lora_in_every_variant_begins_with_the_bases_loss_and_trains_alike_in_every_stage(results):
    found = {way: [results[cell_name(way, "fp32", stage)] for stage in stages_of(way)] for way in ADAPTERS}
    of_base = results[cell_name("llava", "fp32", 0)][0][0]
    for way, stages in found.items():
        for first, second in stages:
            assert first[0] == pytest.approx(of_base, rel=1e-4), way
            assert first == pytest.approx(stages[0][0], rel=1e-4), way
            assert second == pytest.approx(stages[0][1], rel=1e-4), way
            assert first[0] != second[0], way
