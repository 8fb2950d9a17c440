"""What tests of several folders share."""

import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

# Two test processes and the ranks they start share the cores: more threads than cores would only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture(scope="session")
def deepspeed() -> Callable[..., list[str]]:
    """`deepspeed --num_gpus 2 …` as words, meeting at a port of its own: the default one may be another run's."""

    def words(*arguments: object) -> list[str]:
        start = [str(Path(sys.executable).with_name("deepspeed")), "--num_gpus", "2", "--master_port", str(free_port())]
        return [*start, *map(str, arguments)]

    return words
