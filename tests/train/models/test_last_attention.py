"""The last layer's attention at few positions: averaging states gives what averaging values gives, with less work."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, LlamaModel

from train.models import last_attention
from train.models.last_attention import attend_at, averages_states
from train.models.llama_layers import rotary_angles

ROWS, TOKENS, PREFIX, QUERIES = 2, 40, 7, 3


def decoder_of(kv_heads=4, bias=False):
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=128, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=kv_heads,
        attention_bias=bias, vocab_size=16,
    )  # fmt: skip
    return LlamaModel(config).double()


def attended(decoder, prefix, monkeypatch, *, averages):
    """Result and the gradients of the states, from fixed random inputs."""
    monkeypatch.setattr(last_attention, "averages_states", lambda *_: averages)
    torch.manual_seed(1)
    layer = decoder.layers[0]
    states = torch.randn(ROWS, TOKENS, 128, dtype=torch.double, requires_grad=True)
    heads = layer.self_attn.k_proj.out_features // layer.self_attn.head_dim
    prefix_kv = [torch.randn(1, heads, prefix, 32, dtype=torch.double) for _ in range(2)] if prefix else ()
    columns = torch.tensor([[4, 20, 39], [0, 0, 38]])
    angles = rotary_angles(decoder, states, torch.arange(prefix, prefix + TOKENS)[None])
    mask = (torch.arange(prefix + TOKENS) <= columns[:, :, None] + prefix)[:, None]
    with FlopCounterMode(display=False) as counter:
        made = attend_at(layer, states, angles, (torch.arange(ROWS)[:, None], columns), mask, prefix_kv)
        (made * torch.randn(made.shape, dtype=torch.double)).sum().backward()
    return made.detach(), states.grad, counter.get_total_flops()


@pytest.mark.parametrize("prefix", [0, PREFIX])
@pytest.mark.parametrize("kv_heads", [4, 2, 1])
def test_averaged_states_give_the_same_result_and_gradients(prefix, kv_heads, monkeypatch):
    decoder = decoder_of(kv_heads)
    expected, expected_gradient, _ = attended(decoder, prefix, monkeypatch, averages=False)
    made, gradient, _ = attended(decoder, prefix, monkeypatch, averages=True)
    assert made.shape == (ROWS, 4, QUERIES, 32)
    torch.testing.assert_close(made, expected, rtol=1e-6, atol=1e-6)  # the softmax is in fp32
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-5, atol=1e-6)


def test_few_queries_average_states_and_many_average_values(monkeypatch):
    attention = decoder_of().layers[0].self_attn
    few, many = (averages_states(attention, queries, 600) for queries in (3, 30))
    assert few
    assert not many
    assert not averages_states(decoder_of(bias=True).layers[0].self_attn, 3, 600), "a bias is no linear map"
    attention.v_proj = torch.nn.Sequential(attention.v_proj)
    assert not averages_states(attention, 3, 600), "adapted layers draw a dropout for each token"
    decoder = decoder_of()
    assert attended(decoder, 0, monkeypatch, averages=True)[2] < attended(decoder, 0, monkeypatch, averages=False)[2]
