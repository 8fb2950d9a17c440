"""The benchmark of a LoRA layer counts what it says."""

import pytest
import torch

from train.benchmarks.lora_layer import OURS, PEFT, SmallLayer, kernels_of, measure
from train.models.dropout_mask import draw_keys, masked


def test_views_and_allocations_are_no_kernels_and_a_mask_is_one():
    states = torch.ones(4, 6)
    keys = draw_keys(1, states)[0]
    assert kernels_of(lambda: states.view(2, 12).T.flatten(0, 0)) == 0
    assert kernels_of(lambda: torch.empty(3)) == 0
    assert kernels_of(lambda: states @ states.T + 1) == 2
    assert kernels_of(lambda: masked(states, keys, 0.5)) == 1
    assert kernels_of(lambda: torch.nn.functional.dropout(states, 0.5)) == 1


@pytest.mark.slow
def test_a_layer_keeps_less_than_half_and_launches_fewer_kernels_than_pefts():
    measured = measure(tokens=16, dropout=0.05, dtype="fp32", rounds=1)
    kept, kernels = measured["bytes per token and layer"], measured["kernels per layer"]
    assert kept["ratio"] == kept[OURS] / kept[PEFT] < 0.45
    assert kernels[OURS] < kernels[PEFT]
    assert measured["gradient difference without dropout, fp32"] < 1e-6


@pytest.mark.slow
def test_both_sides_start_from_equal_weights_and_a_step_does_not_add_to_the_last_one():
    layers = [SmallLayer.make(stage, 0.0, torch.float32, 8) for stage in (0, 3)]
    first, other = (layer.gradients() for layer in layers)
    assert torch.allclose(first, other, atol=1e-5)
    assert torch.equal(first, layers[0].gradients())
