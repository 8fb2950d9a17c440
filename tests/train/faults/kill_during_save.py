"""Kills processes that save, at random instants of a phase, and looks at what is left. Prints one line of JSON.

python tests/train/faults/kill_during_save.py PHASE[,PHASE...] TRIALS SEED FOLDER RUN_CONFIG

    payload   the leading rank while it writes the tensors
    commit    the leading rank from the manifest to the rename
    prune     the leading rank while it deletes an older checkpoint
    gather    rank 1 of two while DeepSpeed (ZeRO 2) gathers the state of the run RUN_CONFIG

Each trial forks the process or processes from this one, which has imported everything, and kills with SIGKILL. All
trials of a phase go on in the same run folder, so that what one kill leaves behind is in the way of the next save.
"""

import json
import os
import random
import select
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[3])

import torch

from configs.load import load_config
from configs.run import RunConfig
from configs.run_dir import RunDir
from configs.saving import CheckpointConfig
from train.checkpoints.async_checkpointer import AsyncCheckpointer
from train.checkpoints.reading import MANIFEST, newest_checkpoint
from train.checkpoints.writing import CheckpointWriter, Snapshot, cleanup_partial
from train.distributed.world import free_port
from train.optimization.full_state import ParameterState
from train.plan import make_plan

ROWS, COLUMNS, MATRICES = 1024, 64, 16  # 12.6 MB with the moments
BEGINS = {"payload": "payload", "commit": "commit", "prune": "prune", "gather": "gather"}
ENDS = {"payload": "commit", "commit": "committed", "prune": "done", "gather": "gathered"}


def state_of(step: int) -> list[ParameterState]:
    """LoRA-like matrices that only this step has."""
    generator = torch.Generator().manual_seed(step)
    tensors = torch.rand(MATRICES, 3, ROWS, COLUMNS, generator=generator)
    return [ParameterState(f"layer.{n}", t[0], {"exp_avg": t[1], "exp_avg_sq": t[2]}) for n, t in enumerate(tensors)]


def mark(pipe: int, name: str) -> None:
    os.write(pipe, f"{name} {time.monotonic()}\n".encode())


def mark_file_operations(pipe: int, run: RunDir) -> None:
    """Tell the parent what the writer is about to do; audit events come before the operation."""

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and str(arguments[0]).endswith(".tmp/weights.safetensors"):
            mark(pipe, "payload")
        elif event == "open" and f".{MANIFEST}." in str(arguments[0]):
            mark(pipe, "commit")
        elif event == "open" and str(arguments[0]) == str(run.checkpoints):
            mark(pipe, "committed")
        elif event == "os.remove" and Path(str(arguments[0])).name == MANIFEST:
            mark(pipe, "prune")

    sys.addaudithook(hook)


def save_alone(pipe: int, run: RunDir, step: int) -> None:
    """What the leading rank does at a save: the thread writes while 'training' goes on."""
    cleanup_partial(run)
    states = state_of(step)
    mark_file_operations(pipe, run)
    checkpointer = AsyncCheckpointer(CheckpointWriter(run, CheckpointConfig(keep_last=2)), asynchronous=True)
    checkpointer.begin(Snapshot.take(step, iter(states), {}), time.perf_counter())
    while (outcome := checkpointer.finished()) is None:
        states[0].master @ states[1].master.t()
    assert outcome.error is None, outcome.error
    mark(pipe, "done")


def save_together(pipe: int, rank: int, port: int, plan: Any, step: int) -> None:
    """What each of two ranks does: the real trainer gathers, the leading one writes."""
    from train.build import build_trainer
    from train.distributed.world import start_world
    from train.resume import open_run

    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    world = start_world()
    trainer = build_trainer(plan, world, open_run(plan, resume=True))
    trainer.components.loggers.clear()
    trainer.position = type(trainer.position)(step)
    gather = trainer.components.engine.state.iter_full_state

    def marked() -> Any:
        if rank == 1:
            mark(pipe, "gather")
        yield from gather()
        if rank == 1:
            mark(pipe, "gathered")

    trainer.components.engine.state.iter_full_state = marked  # type: ignore[method-assign]
    try:
        trainer.save()
    finally:
        trainer.components.checkpointer.finished(wait=True)
    mark(pipe, "done")


def forked(work: Callable[[int], None]) -> tuple[int, Any]:
    """(pid, the pipe's reading end) of a process that does `work`."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        return pid, os.fdopen(reading, "rb", buffering=0)
    code = 1
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        work(writing)
        code = 0
    finally:
        os._exit(code)


def marks(pipe: Any, until: str, patience: float = 300) -> dict[str, float]:
    """Names and times the child has told, up to `until` or its end."""
    text, deadline = b"", time.monotonic() + patience
    while f"{until} ".encode() not in text or not text.endswith(b"\n"):
        ready, _, _ = select.select([pipe], [], [], max(0, deadline - time.monotonic()))
        assert ready, f"no {until} within {patience} s: {text.decode()}"
        more = pipe.read(4096)
        if not more:
            break
        text += more
    told: dict[str, float] = {}
    for line in text.decode().splitlines():
        name, moment = line.split()
        told.setdefault(name, float(moment))
    return told


def trial(phase: str, processes: list[tuple[int, Any]], delay: float | None) -> dict[str, float]:
    """Kill the last process `delay` seconds into the phase, or let it be; wait for all. Returns its marks."""
    pid, pipe = processes[-1]
    told = marks(pipe, BEGINS[phase] if delay is not None else "done")
    if delay is not None:
        while (left := told[BEGINS[phase]] + delay - time.monotonic()) > 0:
            select.select([], [], [], left)
        os.kill(pid, signal.SIGKILL)
    for process, its_pipe in processes:
        os.waitpid(process, 0)
        its_pipe.close()
    return told


def start(phase: str, run: RunDir, plan: Any, step: int) -> list[tuple[int, Any]]:
    """The processes of one save; the last is the one to be killed."""
    if phase != "gather":
        return [forked(lambda pipe: save_alone(pipe, run, step))]
    port = free_port()
    return [forked(lambda pipe, rank=rank: save_together(pipe, rank, port, plan, step)) for rank in (0, 1)]


def is_right(phase: str, checkpoint: Any) -> bool:
    """Whether a checkpoint holds what its step had: sha256 was checked when it was opened."""
    if phase == "gather":
        return len(list(checkpoint.parameters())) == len(checkpoint.state["parameters"])
    pairs = zip(checkpoint.parameters(), state_of(checkpoint.step), strict=True)
    return all(
        torch.equal(a.master, b.master) and torch.equal(a.moments["exp_avg"], b.moments["exp_avg"]) for a, b in pairs
    )


def is_half(run: RunDir, step: int) -> bool:
    """Whether the kill has left a half-written or half-deleted checkpoint, as it should now and then."""
    written = run.checkpoint(step).with_name(f".step-{step:08d}.tmp").exists()
    return written or any(not (folder / MANIFEST).exists() for folder in run.checkpoints.glob("step-*"))


def import_everything(plan: Any) -> None:
    """Once here, and not in every process."""
    import deepspeed  # noqa: F401

    import train.build  # noqa: F401
    from train.models.loading import load_model
    from train.models.param_groups import choose_trainable

    config = plan.config
    choose_trainable(load_model(str(plan.folder), None, "fp32", "sdpa").model, plan.family, config.model, config.optim)


def kills(phase: str, trials: int, seed: int, folder: Path, config_file: Path) -> dict[str, Any]:
    """Counts of what was found after each kill."""
    run, plan, step = RunDir(folder / phase), None, 0
    if phase == "gather":
        overrides = [f"name={phase}", f"runs_dir={folder}", "deepspeed.zero_stage=2", "model.mode=lora"]
        plan = make_plan(load_config(RunConfig, config_file, overrides)[0], 2, "cpu")
        import_everything(plan)
    for _ in range(3):  # the third finds three, deletes one and is timed
        step += 1
        told = trial(phase, start(phase, run, plan, step), None)
    duration = told[ENDS[phase]] - told[BEGINS[phase]]
    results, random_numbers = {"trials": trials, "broken": 0, "new": 0, "previous": 0, "half": 0}, random.Random(seed)
    for _ in range(trials):
        trial(phase, start(phase, run, plan, step + 1), random_numbers.random() * duration)
        results["half"] += is_half(run, step + 1)
        try:
            found, _ = newest_checkpoint(run)
            assert found is not None
            assert found.step in (step, step + 1)
            assert is_right(phase, found)
        except Exception as error:  # anything at all is a broken checkpoint, and is printed
            print(f"broken: {error!r}", file=sys.stderr)
            results["broken"] += 1
            continue
        results["new" if found.step > step else "previous"] += 1
        step = found.step
    return results | {"phase_ms": duration * 1e3}


def main() -> None:
    phases, trials, seed, *places = sys.argv[1:]
    torch.set_num_threads(1)
    folder, config_file = map(Path, places)
    found = {phase: kills(phase, int(trials), int(seed), folder, config_file) for phase in phases.split(",")}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
