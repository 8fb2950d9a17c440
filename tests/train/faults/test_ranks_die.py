"""A rank that is killed: the others end, say who, where and in which stage, and a resumed run has lost nothing."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from configs.run_dir import RunDir
from train.checkpoints.reading import newest_checkpoint

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]

PLACES = {  # where the rank is killed: the fault, and the stage its peer then finds itself in
    "data wait": ({"stage": "reading", "nth": 30, "do": "kill"}, "before the step"),
    "forward": ({"stage": "forward/backward", "step": 5, "nth": 2, "do": "kill"}, "forward/backward"),
    "all-reduce": ({"stage": "sum of losses", "step": 5, "do": "kill inside"}, "sum of losses"),
    "optimizer step": ({"stage": "update", "step": 5, "do": "kill"}, ""),
}
ROWS = {"forward": 1, "all-reduce": 2, "optimizer step": 3, "data wait": 4}
QUICK = {("all-reduce", 1)}


def cells():
    for place, row in ROWS.items():
        for rank in (0, 1):
            mark = pytest.mark.fault(
                row,
                f"kill -9 rank {rank}: {place}",
                "others rc != 0, named; nothing lost",
                long=(place, rank) not in QUICK,
            )
            yield pytest.param(place, rank, marks=mark, id=f"{place}-{rank}")


@pytest.mark.parametrize(("place", "rank"), list(cells()))
def test_a_killed_rank_ends_all_and_nothing_is_lost(rank_forker, uninterrupted, seen, place, rank):
    fault, stage = PLACES[place]
    faults = [{"rank": rank, **fault}]
    if fault["do"] == "kill inside":  # the other rank comes late to the collective, so that this one waits in it
        faults.append({"rank": 1 - rank, "stage": "sum of losses", "step": 5, "do": "hold", "seconds": 1.0})
    name = f"killed-{place.replace(' ', '-')}-{rank}"
    ranks = rank_forker.start(name, *faults, train__step_timeout=20)
    ranks.wait_until_reached()
    ranks.ended()
    assert ranks.codes == {rank: -9, 1 - rank: 4}
    assert not list(ranks.run.root.glob("hang-rank-*")), "nothing hung"
    named = [line for line in ranks.text().splitlines() if line.startswith(f"error: rank {1 - rank}, after step")]
    assert f"rank {rank} (" in named[0]
    assert "has died" in named[0]
    assert stage in named[0]
    done = max(line["step"] for line in ranks.metrics())
    resumed = rank_forker.start(name, resume=True)
    resumed.ended()
    assert resumed.codes == {0: 0, 1: 0}, resumed.text()
    assert resumed.hexes() == uninterrupted.hexes()
    seen(f"died at step {done}; peer: rc {ranks.codes[1 - rank]} {named[0][7:60]}...; all gone; resumed bit-equal")


@pytest.mark.fault(
    3, "kill -9 rank 1 while rank 0 writes for 8 s beside training", "the checkpoint is finished", long=True
)
def test_a_checkpoint_that_is_being_written_when_a_rank_dies_is_finished(rank_forker, seen):
    slow = {"rank": 0, "stage": "writing", "step": 6, "do": "hold", "seconds": 8.0}
    dies = {"rank": 1, "stage": "forward/backward", "step": 7, "do": "kill"}
    ranks = rank_forker.start("writes-on", slow, dies, train__step_timeout=30)
    ranks.wait_until_reached(1)
    seconds = ranks.ended()
    assert ranks.codes[1] == -9
    assert ranks.codes[0] not in (0, -9)
    assert newest_checkpoint(ranks.run)[0].step == 6
    seen(f"rank 0 ended {seconds:.1f} s after rank 1, the checkpoint of step 6 is complete")


def test_the_launcher_ends_with_a_code_of_the_documented_ones(training_setup, deepspeed, until, tmp_path):
    """`deepspeed` takes the code of the rank whose end it sees first: 4, or 247 for signal 9."""
    settings = {"train__max_steps": 100_000, "train__epochs": 100_000, "checkpoint__every": 100_000}
    words = [*deepspeed(), "train/finetune.py", *training_setup.arguments("launched", **settings)]
    run = RunDir(training_setup.root / "runs" / "launched")
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(words, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
    until(lambda: run.metrics.is_file() and run.metrics.read_text().strip(), "no step")
    config = os.fsencode(training_setup.config_file("launched"))
    (killed,) = (pid for pid, words in command_lines() if {config, b"--local_rank=1"} <= words)
    os.kill(killed, signal.SIGKILL)
    assert process.wait(timeout=300) in (4, 247), (tmp_path / "log").read_text()[-2000:]
    assert not list(run.root.glob("hang-rank-*"))


def command_lines() -> Iterator[tuple[int, set[bytes]]]:
    """Every rank or other program that runs: its process id and the words of its command line."""
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit():
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if b"deepspeed.launcher.launch" not in words:
                    yield int(entry.name), set(words)
