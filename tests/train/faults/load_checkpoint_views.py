"""Two ranks that load, each from its own view of a run: what each decides. Prints one line of JSON.

python tests/train/faults/load_checkpoint_views.py FOLDER CELL...       FOLDER/CELL-RANK is the view of a rank

The ranks are forked from one process and meet by gloo.
"""

import errno
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[3])

import torch.distributed

from configs.errors import RunError
from configs.run_dir import RunDir
from train.checkpoints.reading import steps_present
from train.distributed.world import run_on_main
from train.resume import agreed_checkpoint


def decide(folder: Path, cell: str, rank: int) -> dict[str, object]:
    """The checkpoint this rank would load, and what was skipped."""
    run = RunDir(folder / f"{cell}-{rank}")
    try:
        checkpoint, problems = agreed_checkpoint(run, [3, 2, 1])
    except RunError as error:
        return {"error": str(error)}
    return {"step": checkpoint and checkpoint.step, "problems": problems, "present": steps_present(run)}


def fail() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def end_of(work: Callable[[], int | None]) -> object:
    """What work of the leading rank comes to on this one."""
    try:
        return run_on_main(work)
    except RunError as error:
        return str(error)


def be_rank(folder: Path, cells: list[str], rank: int) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    decided = {cell: decide(folder, cell, rank) for cell in cells}
    decided |= {"led": end_of(lambda: 7), "failing leader": end_of(fail)}
    (folder / f"decided-{rank}.json").write_text(json.dumps(decided))
    torch.distributed.destroy_process_group()


def main() -> None:
    folder, cells = Path(sys.argv[1]), sys.argv[2:]
    pids = []
    for rank in (0, 1):
        if not (pid := os.fork()):
            code = 1
            try:
                be_rank(folder, cells, rank)
                code = 0
            finally:
                os._exit(code)
        pids.append(pid)
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    assert codes == [0, 0], codes
    print(json.dumps([json.loads((folder / f"decided-{rank}.json").read_text()) for rank in (0, 1)]))


if __name__ == "__main__":
    main()
