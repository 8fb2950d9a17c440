"""`train.deterministic` reaches every library that would choose another kernel."""

import os

import pytest
import torch
from torch._inductor import config as inductor

from train.distributed.determinism import ENVIRONMENT, make_deterministic


@pytest.fixture
def restored(monkeypatch):
    for name in ENVIRONMENT:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    benchmark = torch.backends.cudnn.benchmark
    settings = {"shape_padding": True} | ({"deterministic": False} if hasattr(inductor, "deterministic") else {})
    with inductor.patch(settings):
        yield
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.benchmark = benchmark


def test_no_library_chooses_kernels_by_timing(restored):
    make_deterministic()
    assert not inductor.shape_padding
    assert getattr(inductor, "deterministic", True)
    assert not torch.backends.cudnn.benchmark
    assert torch.are_deterministic_algorithms_enabled()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
