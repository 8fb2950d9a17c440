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
    settings = {"split_reductions": True} | ({"deterministic": False} if hasattr(inductor, "deterministic") else {})
    with inductor.patch(settings):
        yield
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.benchmark = benchmark


def test_compiled_sums_do_not_depend_on_the_first_batch_a_process_sees(restored):
    make_deterministic()
    assert not inductor.split_reductions
    assert getattr(inductor, "deterministic", True)
    assert torch.are_deterministic_algorithms_enabled()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
