"""The meeting of all ranks at rank 0's address, before their process group is created.

torch's own rendezvous waits inside one call: silent, deaf to signals, for half an hour. Here each rank writes its name
into rank 0's store and looks there several times a second for a decision, which is taken once: `go` when all have come,
`stop` when one of them was asked to stop before that. Whoever waits says so every half minute.
"""

import datetime
import socket
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from torch._C._distributed_c10d import Store, TCPStore
from torch.distributed import DistError

from configs.errors import ConfigError, RunError, first_line

NOTICE_EVERY = 30.0  # seconds
LOOK_EVERY = 0.1  # seconds
CONNECT = 2.0  # seconds for one attempt to reach rank 0
ANSWER = datetime.timedelta(seconds=30)  # for one request to a store that answered before
FAREWELL = 1.0  # seconds in which the others read rank 0's decision to stop before its store is gone
NAMED = 8  # missing ranks listed by number


class WaitStopped(Exception):
    """This rank, or another one that had come, was asked to stop before all had come."""


@dataclass(frozen=True)
class Rendezvous:
    """Who meets where, as the environment says."""

    rank: int
    size: int
    host: str
    port: int
    hint: str
    """What is probably wrong if the others do not come."""

    @property
    def where(self) -> str:
        """Rank 0's address."""
        return f"{self.host}:{self.port}"

    def meet(self, timeout: float, stop_requested: Callable[[], bool]) -> Store:
        """The store of all ranks, once they have come.

        Raises `WaitStopped`; `RunError` after `timeout` seconds or if rank 0 is gone; `ConfigError` for a taken port.
        """
        wait = _Wait(self, timeout, stop_requested)
        store = self._listen() if self.rank == 0 else self._connect(wait)
        try:
            store.set(f"came/{self.rank}", "")
            self._wait_for_decision(store, wait)
        except DistError as error:
            if stop_requested():
                raise WaitStopped(f"rank 0 at {self.where}, which has ended") from error
            raise RunError(
                f"rank {self.rank} lost rank 0 at {self.where} before all ranks had come; see rank 0's output"
            ) from error
        return store

    def _listen(self) -> Store:
        try:
            return TCPStore(self.host, self.port, self.size, is_master=True, wait_for_workers=False, timeout=ANSWER)
        except (DistError, RuntimeError) as error:
            if "in use" not in str(error):
                raise ConfigError(f"rank 0 cannot listen at port {self.port}: {first_line(error)[:200]}") from error
            raise ConfigError(
                f"port {self.port} of this machine is in use, by another training perhaps; choose another one: "
                "deepspeed --master_port N, or MASTER_PORT=N for srun"
            ) from error

    def _connect(self, wait: "_Wait") -> Store:
        """Reach rank 0, however long it takes to start."""
        while True:
            try:
                socket.create_connection((self.host, self.port), timeout=CONNECT).close()
                break
            except OSError as error:
                wait.look(partial("rank 0 at {} ({})".format, self.where, error.strerror or error))
        try:
            return TCPStore(self.host, self.port, is_master=False, timeout=ANSWER)
        except (DistError, RuntimeError) as error:
            raise RunError(
                f"what listens at {self.where} is not rank 0 of this run; choose another port: "
                f"deepspeed --master_port N, or MASTER_PORT=N for srun ({first_line(error)[:200]})"
            ) from error

    def _wait_for_decision(self, store: Store, wait: "_Wait") -> None:
        missing = list(range(self.size))
        while not store.check(["decision"]):
            missing = [rank for rank in missing if not store.check([f"came/{rank}"])] if self.rank == 0 else missing
            if not missing:
                store.compare_set("decision", "", "go")
                break
            try:
                wait.look(partial(self._missing, missing) if self.rank == 0 else None)
            except WaitStopped:
                store.compare_set("decision", "", "stop")
                break
        if store.get("decision") == b"stop":
            if self.rank == 0:
                time.sleep(FAREWELL if len(missing) < self.size - 1 else 0)
            raise WaitStopped(self._missing(missing) if self.rank == 0 else f"the other ranks at {self.where}")

    def _missing(self, ranks: list[int]) -> str:
        names = ", ".join(str(rank) for rank in ranks[:NAMED])
        return (
            f"rank{'s' if len(ranks) > 1 else ''} {names}{' ...' if len(ranks) > NAMED else ''} to come at {self.where}"
        )


@dataclass
class _Wait:
    """One rank's waiting: it says for whom, heeds requests to stop, and ends."""

    meeting: Rendezvous
    timeout: float
    stop_requested: Callable[[], bool]

    def __post_init__(self) -> None:
        self.began = time.monotonic()
        self.noticed = self.began

    def look(self, whom: Callable[[], str] | None) -> None:
        """Sleep until the next look; `whom` is None on ranks whose waiting rank 0 reports."""
        if self.stop_requested():
            raise WaitStopped(whom() if whom else f"the other ranks at {self.meeting.where}")
        now = time.monotonic()
        if now - self.began > self.timeout:
            waited = f"rank {self.meeting.rank} of {self.meeting.size} waited {now - self.began:.0f} s for"
            name = whom() if whom else f"the other ranks at {self.meeting.where}"
            raise RunError(f"{waited} {name} (train.step_timeout); {self.meeting.hint}")
        if whom and now - self.noticed >= NOTICE_EVERY:
            self.noticed = now
            text = f"rank {self.meeting.rank} of {self.meeting.size} has waited {now - self.began:.0f} s for {whom()}"
            with suppress(OSError):
                print(f"{text}; {self.meeting.hint}", file=sys.stderr, flush=True)
        time.sleep(LOOK_EVERY)


def rendezvous_of(environment: Mapping[str, str], slurm: bool) -> Rendezvous:
    """Who this process is among how many; `slurm`: by the variables of an srun step.

    Raises `ConfigError` for variables that are missing or contradict each other.
    """
    rank, size = rank_and_size(environment)
    missing = [name for name in ("MASTER_ADDR", "MASTER_PORT") if not environment.get(name)]
    if missing:
        raise ConfigError(
            f"RANK is {rank} and WORLD_SIZE {size} without {' and '.join(missing)}; unset both, or start by {_LAUNCH}"
        )
    port = environment["MASTER_PORT"]
    if not (port.isdecimal() and 0 < int(port) < 2**16):
        raise ConfigError(f"MASTER_PORT is {port!r}; it must be a number from 1 to 65535")
    return Rendezvous(rank, size, environment["MASTER_ADDR"], int(port), _SRUN_HINT if slurm else _HINT)


def rank_and_size(environment: Mapping[str, str]) -> tuple[int, int]:
    """(RANK, WORLD_SIZE); (0, 1) if neither is set. Raises `ConfigError` if only one is, or if they are no numbers.

    >>> rank_and_size({"RANK": "1", "WORLD_SIZE": "4"})
    (1, 4)
    """
    names = ("RANK", "WORLD_SIZE")
    given = {name: environment[name] for name in names if environment.get(name)}
    if not given:
        return 0, 1
    if len(given) == 1:
        ((name, value),) = given.items()
        (other,) = set(names) - given.keys()
        raise ConfigError(f"{name} is set to {value!r} and {other} is not; unset {name}, or start by {_LAUNCH}")
    for name, value in given.items():
        if not value.isdecimal():
            raise ConfigError(f"{name} is {value!r}, which is no number; unset RANK and WORLD_SIZE, or use {_LAUNCH}")
    rank, size = (int(given[name]) for name in names)
    if rank >= size:
        raise ConfigError(f"RANK is {rank} with WORLD_SIZE {size}; it must be less. Unset both, or start by {_LAUNCH}")
    return rank, size


def held_by_torchrun(environment: Mapping[str, str]) -> bool:
    """Whether torchrun's agent has the store; it starts all ranks of its node, and the agents have met before."""
    return environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True"


_LAUNCH = "`deepspeed`, `torchrun` or `srun`"
_HINT = (
    "if no other process was started, RANK and WORLD_SIZE are left over in this environment: unset them. Otherwise "
    "look at the other ranks' output, and whether their nodes reach this address"
)
_SRUN_HINT = (
    "if this is a shell opened by srun, start the training with its own srun, or with `env -u SLURM_STEP_ID` for one "
    "process. Otherwise look at the other tasks' output, and whether their nodes reach this address"
)
