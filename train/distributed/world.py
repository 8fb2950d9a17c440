"""Ranks: who they are, how they find each other, and the few numbers they exchange.

Started by `deepspeed`, `torchrun`, `srun` or nothing at all. Under `srun` the rank and the address come from SLURM's
own variables, set before DeepSpeed looks for them (without, it would look for MPI).
"""

import datetime
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed
from torch._C._distributed_c10d import PrefixStore

from configs.errors import ConfigError, RunError, UserError
from configs.ports import SLURM_PORTS, free_port
from train.distributed.rendezvous import held_by_torchrun, rank_and_size, rendezvous_of

T = TypeVar("T")

COLLECTIVE_SLACK = 30.0  # seconds


@dataclass(frozen=True)
class World:
    """This process among all: `rank` of `size`, `local_rank` on its node, and its device."""

    rank: int
    size: int
    local_rank: int
    device: torch.device

    @property
    def is_main_process(self) -> bool:
        """True on the rank that writes files."""
        return self.rank == 0

    def all_sum(self, values: Sequence[float]) -> list[float]:
        """Element-wise sum over ranks, in double precision. A single rank does not wait for its GPU."""
        if self.size == 1:
            return [float(value) for value in values]
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(tensor)
        return [float(value) for value in tensor.tolist()]

    def all_max(self, value: float) -> float:
        """Largest value over ranks."""
        if self.size == 1:
            return float(value)
        tensor = torch.tensor([value], dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(tensor, op=torch.distributed.ReduceOp.MAX)
        return float(tensor.item())

    def barrier(self) -> None:
        """Wait for all ranks."""
        if self.size > 1:
            self.all_sum([0.0])


def all_gather_objects(mine: T) -> list[T]:
    """What every rank passed, in the order of ranks; just `mine` where ranks have not met. Collective."""
    if not torch.distributed.is_initialized() or torch.distributed.get_world_size() == 1:
        return [mine]
    gathered: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(gathered, mine)
    return gathered


def run_on_main(work: Callable[[], T]) -> T | None:
    """What `work` gives on the leading rank, None on the others. Collective.

    Raises `RunError` on every rank if a disk or the user caused its failure, so that no rank waits for another.
    """
    done, problem = None, None
    if not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0:
        try:
            done = work()
        except (OSError, UserError) as error:
            problem = str(error)
    if problem := all_gather_objects(problem)[0]:
        raise RunError(problem)
    return done


def slurm_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """torch's rendezvous variables from SLURM's, for a task started by `srun`; empty if it was not.

    Raises `ConfigError` if SLURM names the nodes in a form that needs `scontrol` and MASTER_ADDR is not exported.
    """
    if "RANK" in environment or "SLURM_PROCID" not in environment or "SLURM_STEP_ID" not in environment:
        return {}
    variables = {
        "RANK": environment["SLURM_PROCID"],
        "LOCAL_RANK": environment.get("SLURM_LOCALID", "0"),
        "WORLD_SIZE": environment.get("SLURM_STEP_NUM_TASKS", environment.get("SLURM_NTASKS", "1")),
    }
    if "MASTER_ADDR" not in environment:
        nodes = environment.get("SLURM_STEP_NODELIST", environment.get("SLURM_JOB_NODELIST", "localhost"))
        if "[" in nodes:
            raise ConfigError(
                f"cannot determine the first node of {nodes}; export MASTER_ADDR as slurm/finetune.sbatch does"
            )
        variables["MASTER_ADDR"] = nodes.split(",")[0]
    if "MASTER_PORT" not in environment:
        first, count = SLURM_PORTS
        variables["MASTER_PORT"] = str(first + int(environment.get("SLURM_JOB_ID", "0")) % count)
    return variables


def world_size_of_environment(environment: Mapping[str, str]) -> int:
    """How many ranks the launcher started, known before anything is initialised.

    Raises `ConfigError` for a RANK without WORLD_SIZE and the reverse.
    """
    return rank_and_size(dict(environment) | slurm_variables(environment))[1]


def start_world(timeout: float = 1800.0, stop_requested: Callable[[], bool] = lambda: False) -> World:
    """Join the other ranks: NCCL where there is a GPU, gloo elsewhere.

    A collective that a rank does not come to fails on the others `COLLECTIVE_SLACK` after `timeout` seconds: the
    watchdog, which names the rank, comes first. While ranks are missing, `stop_requested` is looked at.

    Raises `WaitStopped`, `RunError` or `ConfigError` if the ranks do not meet (`train.distributed.rendezvous`).
    """
    slurm = slurm_variables(os.environ)
    os.environ.update(slurm)
    if rank_and_size(os.environ)[1] == 1 and "MASTER_ADDR" not in os.environ:
        os.environ.update({"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"})
        os.environ.update({"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())})
    local_rank = import_deepspeed()
    gpu = torch.cuda.is_available()
    if not gpu:
        _share_cores()
        _switch_off_compiled_collectives()
    backend, patience = "nccl" if gpu else "gloo", datetime.timedelta(seconds=timeout + COLLECTIVE_SLACK)
    if not held_by_torchrun(os.environ):
        meeting = rendezvous_of(os.environ, slurm=bool(slurm))
        store = meeting.meet(timeout + COLLECTIVE_SLACK, stop_requested)
        torch.distributed.init_process_group(
            backend, store=PrefixStore("world", store), rank=meeting.rank, world_size=meeting.size, timeout=patience
        )
    import deepspeed

    deepspeed.init_distributed(dist_backend=backend, timeout=patience, verbose=False)
    device = torch.device("cuda", torch.cuda.current_device()) if gpu else torch.device("cpu")
    return World(torch.distributed.get_rank(), torch.distributed.get_world_size(), local_rank, device)


def import_deepspeed() -> int:
    """Import DeepSpeed with this rank's device chosen, which it looks for; returns the rank's number on its node."""
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    if torch.cuda.is_available():
        local_rank %= torch.cuda.device_count()  # 0 where the scheduler shows each rank nothing but its own GPU
        torch.cuda.set_device(local_rank)
        os.environ["LOCAL_RANK"] = str(local_rank)  # where DeepSpeed looks for the device's number
    else:
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    import deepspeed  # noqa: F401

    return local_rank


def stop_world() -> None:
    """Leave the group of ranks, if one was joined."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _share_cores() -> None:
    """Divide the machine's cores among its ranks; without it each would use them all and they would fight."""
    if "OMP_NUM_THREADS" not in os.environ:
        ranks = int(os.environ.get("LOCAL_WORLD_SIZE", os.environ.get("LOCAL_SIZE", "1")))
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // ranks))


def _switch_off_compiled_collectives() -> None:
    """Keep DeepSpeed from compiling its shared-memory collectives on a CPU: a minute, and a need for g++."""
    import deepspeed.ops

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
