"""Ranks with injected faults, forked in pairs from one process that has imported everything."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from configs.run_dir import RunDir

FORK_RANKS = Path(__file__).with_name("fork_ranks.py")
ROOT = Path(__file__).resolve().parents[3]


PATIENCE = 300.0  # seconds; no claim: a machine may be busy, and only a test that waits for nothing gets there


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Return as soon as `condition` holds; fail with `what` if it never does."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {PATIENCE} s"
        time.sleep(0.02)


def session_members(sessions: set[int]) -> list[int]:
    """Living processes of these sessions: ranks, and what they started."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, _, _, session, *_ = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(session) in sessions and state not in "ZX":
                found.append(int(entry.name))
    return found


@dataclass
class Ranks:
    """A run of forked ranks."""

    rank_forker: "RankForker"
    pids: list[int]
    run: RunDir
    log: Path
    folder: Path
    codes: dict[int, int] = field(default_factory=dict)

    def reached(self, fault: int = 0) -> Path:
        return self.folder / f"reached-{fault}"

    def wait_until_reached(self, fault: int = 0) -> None:
        wait_until(self.reached(fault).exists, f"fault {fault} did not strike; log:\n{self.text()[-3000:]}")

    def wait_for_step(self, step: int) -> None:
        wait_until(lambda: any(line["step"] >= step for line in self.metrics()), f"step {step}\n{self.text()[-3000:]}")

    def release(self, fault: int = 0) -> None:
        (self.folder / f"release-{fault}").touch()

    def ended(self) -> float:
        """Wait until all ranks have ended and what they started as well; seconds that the ranks took."""
        answer = self.rank_forker.ask({"wait": self.pids, "seconds": PATIENCE})
        self.codes = {self.pids.index(int(pid)): code for pid, code in answer["codes"].items()}
        assert len(self.codes) == len(self.pids), f"not ended after {PATIENCE} s: {self.codes}\n{self.text()[-3000:]}"
        wait_until(lambda: not session_members(set(self.pids)), "processes are left behind")
        return float(answer["seconds"])

    def text(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def lines(self, file: Path) -> list[dict[str, Any]]:
        return (
            [json.loads(line) for line in file.read_text().splitlines() if line.endswith("}")] if file.exists() else []
        )

    def metrics(self) -> list[dict[str, Any]]:
        return self.lines(self.run.metrics)

    def events(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.lines(self.run.events) if event["kind"] == kind]

    def hexes(self) -> list[tuple[int, str, str]]:
        return [(line["step"], line["loss"].hex(), line["grad_norm"].hex()) for line in self.metrics()]


@dataclass
class RankForker:
    """The prepared process, and where its runs go."""

    process: "subprocess.Popen[str]"
    training_setup: Any
    folder: Path
    free_port: Callable[[], int]
    started: list[int] = field(default_factory=list)

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        assert answer, "the process that forks ranks has died"
        return json.loads(answer)

    def start(self, name: str, *faults: dict[str, Any], resume: bool = False, ranks: int = 2, **more: Any) -> Ranks:
        """Ranks that train run `name`, with `faults`; `more` are settings (`train__workers=1`) and `env`."""
        environment = more.pop("env", {})
        settings = {"train__heldout_every": 0, "checkpoint__every": 3, "checkpoint__export": "false", **more}
        attempt = len(self.started)
        folder = self.folder / f"{name}-{attempt}"
        folder.mkdir(parents=True)
        for number, fault in enumerate(faults):
            fault["reached"], fault["release"] = str(folder / f"reached-{number}"), str(folder / f"release-{number}")
        argv = [*self.training_setup.arguments(name, **settings), *(["--resume", "auto"] if resume else [])]
        request = {"argv": argv, "ranks": ranks, "log": str(folder / "log"), "faults": faults, "port": self.free_port()}
        pids = self.ask({**request, "env": environment})["pids"]
        self.started += pids
        return Ranks(self, pids, RunDir(self.training_setup.root / "runs" / name), folder / "log", folder)


@pytest.fixture(scope="session")
def rank_forker(training_setup, tmp_path_factory, free_port) -> Iterator[RankForker]:
    yield from started_rank_forker(training_setup, tmp_path_factory, free_port)


def started_rank_forker(training_setup, tmp_path_factory, free_port) -> Iterator[RankForker]:
    """The prepared process; what its runs have left behind is killed at the end."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}
    errors = (tmp_path_factory.mktemp("rank_forker") / "stderr").open("w")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": errors}
    process = subprocess.Popen([sys.executable, str(FORK_RANKS)], cwd=ROOT, env=environment, text=True, **pipes)
    made = RankForker(process, training_setup, tmp_path_factory.mktemp("ranks"), free_port)
    assert process.stdout
    answer = process.stdout.readline()
    while answer and not answer.startswith("{"):  # libraries talk while they are imported
        answer = process.stdout.readline()
    assert answer, Path(errors.name).read_text()
    yield made
    for pid in session_members(set(made.started)):
        os.kill(pid, signal.SIGKILL)
    assert process.stdin
    process.stdin.close()
    process.wait(timeout=300)


@pytest.fixture(scope="session")
def uninterrupted(rank_forker) -> Ranks:
    """The uninterrupted run that resumed ones are compared with: 12 steps, two ranks."""
    ranks = rank_forker.start("unharmed", ranks=2)
    ranks.ended()
    assert ranks.codes == {0: 0, 1: 0}, ranks.text()
    return ranks


@pytest.fixture(name="until", scope="session")
def _until() -> Callable[..., None]:
    return wait_until


@pytest.fixture(name="session_members", scope="session")
def _session_members() -> Callable[[set[int]], list[int]]:
    return session_members
