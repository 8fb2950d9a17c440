"""Who a rank is, from what the launcher or SLURM says."""

import os

import deepspeed
import pytest
import torch

from configs.errors import ConfigError
from train.distributed.world import slurm_variables, start_world

TASK = {"SLURM_PROCID": "3", "SLURM_LOCALID": "1", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "4",
        "SLURM_STEP_NODELIST": "a,b", "SLURM_JOB_ID": "20007"}  # fmt: skip


def test_a_task_of_srun_is_a_rank():
    found = slurm_variables(TASK)
    assert (found["RANK"], found["LOCAL_RANK"], found["WORLD_SIZE"]) == ("3", "1", "4")
    assert (found["MASTER_ADDR"], found["MASTER_PORT"]) == ("a", "20007")
    assert slurm_variables({**TASK, "RANK": "0"}) == {}, "torchrun within a job says who it is"
    assert slurm_variables({"SLURM_PROCID": "0"}) == {}, "a batch script is no task of srun"


def test_nodes_in_brackets_need_an_address():
    nodes = {**TASK, "SLURM_STEP_NODELIST": "node[1-4]"}
    with pytest.raises(ConfigError, match="export MASTER_ADDR"):
        slurm_variables(nodes)
    assert "MASTER_ADDR" not in slurm_variables({**nodes, "MASTER_ADDR": "node1"})


def test_a_rank_that_sees_its_own_gpu_alone_takes_it_and_so_does_deepspeed(monkeypatch):
    """SLURM's --gpus-per-task shows the second rank of a node one GPU, number 0."""
    chosen: list[int] = []
    for name, value in (("RANK", "1"), ("LOCAL_RANK", "1"), ("WORLD_SIZE", "2"),
                        ("TORCHELASTIC_USE_AGENT_STORE", "True")):  # fmt: skip
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: chosen[-1])
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 1)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(deepspeed, "init_distributed", lambda **settings: None)
    world = start_world()
    assert (world.rank, world.device) == (1, torch.device("cuda", 0))
    assert os.environ["LOCAL_RANK"] == "0", "DeepSpeed calls set_device with it"
    assert chosen == [0]
