"""The machines of a job chain and its first stage: the arguments that preflight and submit share."""

import argparse
from dataclasses import dataclass

from configs.errors import ConfigError

STAGES = ("data_prep", "train", "eval")


@dataclass(frozen=True)
class Cluster:
    """The machines of a training job: `nodes` of `gpus_per_node` GPUs, or of `tasks_per_node` CPU ranks."""

    nodes: int
    gpus_per_node: int
    tasks_per_node: int = 1

    @property
    def ranks_per_node(self) -> int:
        """One rank per GPU; without GPUs, `tasks_per_node`."""
        return self.gpus_per_node or self.tasks_per_node

    @property
    def world(self) -> int:
        """Ranks of the complete job."""
        return self.nodes * self.ranks_per_node


def add_cluster_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that describe the machines."""
    parser.add_argument("--nodes", type=int, required=True, metavar="N", help="nodes of the training job")
    parser.add_argument("--gpus-per-node", type=int, required=True, metavar="G", help="0 for a cluster without GPUs")
    parser.add_argument("--tasks-per-node", type=int, default=1, metavar="T", help="ranks per node without GPUs")
    parser.add_argument("--from", choices=STAGES, default="data_prep", dest="start", help="first stage of the chain")


def cluster_of(arguments: argparse.Namespace) -> Cluster:
    """The machines of the arguments; raises `ConfigError` for impossible numbers."""
    cluster = Cluster(arguments.nodes, arguments.gpus_per_node, arguments.tasks_per_node)
    for option, value, least in (
        ("--nodes", cluster.nodes, 1),
        ("--gpus-per-node", cluster.gpus_per_node, 0),
        ("--tasks-per-node", cluster.tasks_per_node, 1),
    ):
        if value < least:
            raise ConfigError(f"{option} is {value}; it must be at least {least}")
    return cluster
