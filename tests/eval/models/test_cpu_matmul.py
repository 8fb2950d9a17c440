"""Products through oneDNN are PyTorch's own, to the last bits of fp32."""

import pytest
import torch
import torch.nn.functional as F

from eval.models.cpu_matmul import OneDnnProducts, attention, default_products, fast_products, linear

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this PyTorch has no oneDNN")


def exact(states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    return (states.double() @ weight.double().T + bias).float()


def test_linear_is_the_product():
    states, weight, bias = torch.randn(5, 7, 64), torch.randn(40, 64), torch.randn(40)
    with torch.inference_mode():
        assert linear(states, weight, bias) == pytest.approx(exact(states, weight, bias), abs=1e-4)
        with OneDnnProducts():
            assert F.linear(states, weight, bias) == pytest.approx(exact(states, weight, bias), abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["all", "causal", "added", "boolean"])
@pytest.mark.parametrize("groups", [1, 2])
def test_attention_is_that_of_pytorch(kind, groups):
    queries, keys = torch.randn(2, 4, 300, 16), torch.randn(2, 4 // groups, 300, 16)
    values = torch.randn(2, 4 // groups, 300, 16)
    sees = torch.rand(2, 1, 300, 300) < 0.3
    sees[..., 0] = True
    options = {
        "all": {},
        "causal": {"is_causal": True},
        "added": {"attn_mask": torch.zeros(sees.shape).masked_fill(~sees, torch.finfo(torch.float32).min)},
        "boolean": {"attn_mask": sees},
    }[kind] | {"scale": 0.3, "enable_gqa": groups > 1}
    expected = F.scaled_dot_product_attention(queries, keys, values, **options)
    with torch.inference_mode():
        assert attention(queries, keys, values, **options) == pytest.approx(expected, abs=1e-5)
        with OneDnnProducts():
            assert F.scaled_dot_product_attention(queries, keys, values, **options) == pytest.approx(expected, abs=1e-5)


def test_a_query_that_sees_nothing_is_finite():
    queries, sees = torch.randn(1, 2, 20, 8), torch.ones(20, 20, dtype=torch.bool).tril()
    sees[0] = False  # padding
    with torch.inference_mode():
        assert attention(queries, queries, queries, attn_mask=sees).isfinite().all()


def test_all_else_is_left_to_pytorch():
    states, weight = torch.randn(4, 8), torch.randn(3, 8, requires_grad=True)
    with OneDnnProducts():
        F.linear(states, weight).sum().backward()  # needs gradients
        with torch.inference_mode():
            assert F.linear(states.bfloat16(), weight.bfloat16()).dtype == torch.bfloat16
            few, many = torch.randn(1, 2, 20, 8), torch.randn(1, 2, 30, 8)
            corner = F.scaled_dot_product_attention(few, many, many, is_causal=True)  # aligned with the upper left
    assert weight.grad is not None
    assert corner[:, :, 0] == pytest.approx(many[:, :, 0])


def test_nothing_changes_where_it_is_switched_off_or_not_fp32():
    with default_products():
        assert not isinstance(fast_products(torch.ones(1)), OneDnnProducts)
    assert not isinstance(fast_products(torch.ones(1, dtype=torch.bfloat16)), OneDnnProducts)
    assert not isinstance(fast_products(torch.ones(1, device="meta")), OneDnnProducts)
