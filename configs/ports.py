"""Ports at which the ranks of a training meet."""

import socket

SLURM_PORTS = (20_000, 20_000)  # first port and how many: the job's number picks one, as slurm/finetune.sbatch does


def free_port() -> int:
    """A port of this machine that no other process uses."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])
