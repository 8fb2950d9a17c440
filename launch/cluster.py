"""The machines of a job chain and its first stage: the arguments that preflight and submit share."""

import argparse
from dataclasses import dataclass

from configs.errors import ConfigError
from configs.slurm import SlurmConfig, training_gpus

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
    add_node_arguments(parser)
    parser.add_argument("--from", choices=STAGES, default="data_prep", dest="start", help="first stage of the chain")


def add_node_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that describe one node."""
    parser.add_argument(
        "--gpus-per-node", type=int, metavar="G", help="0 for a cluster without GPUs; default: slurm.gpus"
    )
    parser.add_argument("--tasks-per-node", type=int, default=1, metavar="T", help="ranks per node without GPUs")


def add_verbose(parser: argparse.ArgumentParser) -> None:
    """`--verbose`: the dry run prints the job scripts as well."""
    parser.add_argument("--verbose", action="store_true", help="with --dry-run: print the job scripts as well")


def cluster_of(arguments: argparse.Namespace, slurm: SlurmConfig) -> Cluster:
    """The machines of the arguments and the config; raises `ConfigError` for impossible or contradictory numbers."""
    if (asked := arguments.gpus_per_node) is not None and asked < 0:
        raise ConfigError(f"--gpus-per-node is {asked}; it must be at least 0")
    cluster = Cluster(arguments.nodes, training_gpus(slurm, asked).count, arguments.tasks_per_node)
    for option, value, least in (
        ("--nodes", cluster.nodes, 1),
        ("--tasks-per-node", cluster.tasks_per_node, 1),
    ):
        if value < least:
            raise ConfigError(f"{option} is {value}; it must be at least {least}")
    return cluster
