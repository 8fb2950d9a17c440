"""A process that has imported everything training needs and forks ranks from it: a pair of ranks starts in 2 s, not 15.

Reads one JSON request a line and answers one line each:

    {"argv": [...], "ranks": 2, "log": FILE, "env": {...}, "faults": [...]}  ->  {"pids": [...]}
    {"wait": [pids], "seconds": S}                                           ->  {"codes": {pid: code}, "seconds": s}

A rank is a session of its own, so that what it leaves behind is found. A fault strikes `rank` when it enters `stage` of
the step after `step`, for the `nth` time: `kill` (SIGKILL), `hang`, `raise`, `hold` (says "reached", waits for a file).
"""

import contextlib
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[3])

import deepspeed  # noqa: F401 - imported once, here
import torch

import train.finetune
import train.finetuning
from train.checkpoints.writing import CheckpointWriter
from train.data.collate import ExampleSet
from train.supervision import signals
from train.supervision.progress import Progress

NEVER = 100_000


def strike(fault: dict[str, Any]) -> None:
    """What a fault does, in the rank that it strikes."""
    Path(fault["reached"]).touch()
    if fault["do"] == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif fault["do"] == "kill inside":  # while this rank waits in the collective that comes next
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGKILL)).start()
    elif fault["do"] == "raise":
        raise RuntimeError("a fault was injected")
    else:
        deadline = time.monotonic() + fault.get("seconds", NEVER)
        while not Path(fault["release"]).exists() and time.monotonic() < deadline:
            with contextlib.suppress(InterruptedError):
                time.sleep(0.02)


def arm(fault: dict[str, Any], rank: int) -> None:
    """Put `fault` into this process."""
    if fault["rank"] not in (rank, "all"):
        return
    if fault["stage"] == "reading":  # in the process that reads: blocks or raises at the nth sample it is asked for
        _arm_reading(fault)
    elif fault["stage"] == "writing":  # in the thread that writes the checkpoint of `step`, before its commit
        _arm_writing(fault)
    elif fault["stage"] == "forward":
        _arm_forward(fault)
    else:
        _arm_stage(fault)


def _arm_stage(fault: dict[str, Any]) -> None:
    enter, seen = Progress.enter, {"n": 0}

    def entered(self: Progress, stage: str, step: int | None = None) -> None:
        enter(self, stage, step)
        if stage == fault["stage"] and self.position.step == fault["step"]:
            seen["n"] += 1
            if seen["n"] == fault.get("nth", 1):
                strike(fault)

    Progress.enter = entered  # type: ignore[method-assign]


def _arm_reading(fault: dict[str, Any]) -> None:
    read, seen = ExampleSet.__getitem__, {"n": 0}

    def reading(self: ExampleSet, position: int) -> Any:
        seen["n"] += 1
        if seen["n"] == fault["nth"]:
            strike(fault)
        return read(self, position)

    ExampleSet.__getitem__ = reading  # type: ignore[method-assign]


def _arm_writing(fault: dict[str, Any]) -> None:
    write = CheckpointWriter._write_files

    def writing(self: CheckpointWriter, folder: Path, snapshot: Any) -> None:
        write(self, folder, snapshot)
        if snapshot.step == fault["step"]:
            strike(fault)

    CheckpointWriter._write_files = writing  # type: ignore[method-assign]


def _arm_forward(fault: dict[str, Any]) -> None:
    """The forward passes of this rank take `factor` times as long."""
    from train.models.loss_module import LossModule

    forward = LossModule.forward

    def slow(self: LossModule, batch: Any) -> Any:
        began = time.perf_counter()
        done = forward(self, batch)
        if self.training:
            time.sleep((fault["factor"] - 1) * (time.perf_counter() - began))
        return done

    LossModule.forward = slow  # type: ignore[method-assign]


def become_rank(request: dict[str, Any], rank: int) -> None:
    """Turn this forked process into a rank and train."""
    os.setsid()
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number in (1, 2):
        os.dup2(log, number)
    os.environ.update(request.get("env", {}))
    os.environ.update({"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(request["ranks"])})
    os.environ.update({"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(request["port"])})
    sys.argv = ["train/finetune.py", *request["argv"]]
    signals.install()
    for fault in request["faults"]:
        arm(fault, rank)
    train.finetune.main()


def fork_rank(request: dict[str, Any], rank: int) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        become_rank(request, rank)
        code = 0
    except SystemExit as exit_:
        code = exit_.code if isinstance(exit_.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        import atexit

        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        atexit._run_exitfuncs()
        os._exit(code)


def wait_for(pids: list[int], seconds: float) -> dict[str, Any]:
    """Exit codes, as a shell would see them, and when the last of those that ended did."""
    began, codes, last = time.monotonic(), {}, 0.0
    while len(codes) < len(pids) and time.monotonic() - began < seconds:
        for pid in set(pids) - codes.keys():
            with contextlib.suppress(ChildProcessError):
                done, status = os.waitpid(pid, os.WNOHANG)
                if done:
                    codes[pid] = os.waitstatus_to_exitcode(status)
                    last = time.monotonic() - began
        time.sleep(0.02)
    return {"codes": codes, "seconds": last}


def main() -> None:
    torch.set_num_threads(1)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_DFL)
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            answer = wait_for(request["wait"], request["seconds"])
        else:
            answer = {"pids": [fork_rank(request, rank) for rank in range(request["ranks"])]}
        print(json.dumps(answer), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
