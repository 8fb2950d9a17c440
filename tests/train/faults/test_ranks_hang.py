"""A rank that stands still, hangs, lags or loses its reader: named, and nobody waits for it longer than told to."""

import os
import re
import signal
import stat
import time

import pytest

pytestmark = pytest.mark.slow

ENDLESS = {"train__max_steps": 100_000, "train__epochs": 100_000, "checkpoint__every": 100_000}


@pytest.mark.fault(25, "SIGSTOP rank 1 for 20 s", "named while it is still, then as a straggler; no abort", long=True)
def test_a_rank_that_is_stopped_for_a_while_is_named_and_the_run_continues(rank_forker, seen, until):
    ranks = rank_forker.start("still", **ENDLESS, train__step_timeout=60)
    ranks.wait_for_step(5)
    os.kill(ranks.pids[1], signal.SIGSTOP)
    until(lambda: ranks.events("silent"), "not named while still")
    assert "rank 1 (" in ranks.events("silent")[0]["message"]
    assert "sends no heartbeat" in ranks.events("silent")[0]["message"]
    before = ranks.metrics()[-1]["step"]
    time.sleep(10)  # long enough to be a straggler in a single step
    assert ranks.metrics()[-1]["step"] <= before + 1
    os.kill(ranks.pids[1], signal.SIGCONT)
    ranks.wait_for_step(before + 20)
    found = ranks.events("straggler")
    assert [event["rank"] for event in found] == [1]
    assert found[0]["seconds"] > 10
    os.kill(ranks.pids[0], signal.SIGTERM)
    ranks.ended()
    assert ranks.codes == {0: 0, 1: 0}
    seen(f"silent event, then straggler rank 1, {found[0]['seconds']:.0f} s, score {found[0]['score']:.0f}; went on")


def stopped_cells():
    for rank in (0, 1):
        text = "rank {} stopped by SIGSTOP, train.step_timeout 12"
        mark = pytest.mark.fault(25, text.format(rank), "ends after the timeout, rank and stage named", long=rank == 0)
        yield pytest.param(rank, marks=mark, id=f"rank {rank}")


@pytest.mark.parametrize("rank", list(stopped_cells()))
def test_beyond_the_timeout_the_run_ends_and_the_stuck_rank_is_named(rank_forker, seen, rank):
    ranks = rank_forker.start(f"stopped-{rank}", **ENDLESS, train__step_timeout=12)
    ranks.wait_for_step(5)
    os.kill(ranks.pids[rank], signal.SIGSTOP)
    seconds = ranks.ended()
    assert ranks.codes == {rank: -9, 1 - rank: 4}, ranks.text()[-3000:]
    named = next(line for line in ranks.text().splitlines() if line.startswith(f"error: rank {1 - rank}, after step"))
    assert f"rank {rank} (" in named
    assert "is stuck" in named
    stacks = ranks.run.hang(1 - rank)
    assert "Thread 0x" in stacks.read_text()
    assert "all_sum" in stacks.read_text() or "step" in stacks.read_text()
    assert stat.S_IMODE(stacks.stat().st_mode) == 0o600
    seen(f"ended after {seconds:.1f} s with rc 4; {named[7:150]}...")


def hang_cells():
    for stage, what in (
        ("reading", "data"),
        ("update", "update"),
        ("checkpoint", "checkpoint"),
        ("sum of losses", "sum of losses"),
    ):
        mark = pytest.mark.fault(
            25, f"rank 1 hangs in stage {what}", "ends after the timeout, rank and stage named", long=True
        )
        yield pytest.param(stage, what, marks=mark, id=what)


@pytest.mark.parametrize(("stage", "what"), list(hang_cells()))
def test_a_hanging_rank_ends_the_run_and_its_stage_is_named(rank_forker, seen, stage, what):
    """The rank lives and shows signs of life, but makes no progress."""
    fault = {"rank": 1, "stage": stage, "step": 6, "nth": 12 if stage == "reading" else 1, "do": "hang"}
    ranks = rank_forker.start(
        f"hang-{what.replace(' ', '_')}", fault, train__step_timeout=10, train__workers=1 if stage == "reading" else 0
    )
    ranks.wait_until_reached()
    seconds = ranks.ended()
    assert 4 in ranks.codes.values(), ranks.text()[-3000:]
    assert 0 not in ranks.codes.values()
    own = next(line for line in ranks.text().splitlines() if line.startswith("error: rank"))
    assert f"stage {what}" in own
    assert re.search(r"rank 1 \([^)]*\) is stuck", ranks.text())
    seen(f"ended after {seconds:.1f} s, rc {sorted(set(ranks.codes.values()))}; {own[7:120]}...")


@pytest.mark.fault(26, "rank 1's forward passes take ten times as long", "score reported, no abort", long=True)
def test_a_slow_rank_is_reported_with_its_score(rank_forker, seen):
    slow = {"rank": 1, "stage": "forward", "factor": 10.0}  # far above train.straggler_factor and a machine's noise
    steps_of_milliseconds = {"train__straggler_seconds": 0.01, "train__max_steps": 60, "train__epochs": 100}
    ranks = rank_forker.start("slow", slow, **steps_of_milliseconds)
    ranks.ended()
    assert ranks.codes == {0: 0, 1: 0}, ranks.text()[-2000:]
    found = ranks.events("straggler")
    assert {event["rank"] for event in found} == {1}
    assert found[0]["score"] >= 2
    assert re.search(r"rank 1 \(\S+, process \d+\) takes \d", found[0]["message"])
    seen(f"rank 1 named at step {found[0]['step']}, score {found[0]['score']:.1f}; trained to the end")


def worker_cells():
    for do, long in (("kill", False), ("raise", True)):
        what = "is killed as by lack of memory" if do == "kill" else "raises"
        mark = pytest.mark.fault(27, f"rank 1's data worker {what}", "all stop, named, no hang", long=long)
        yield pytest.param(do, marks=mark, id=do)


@pytest.mark.parametrize("do", list(worker_cells()))
def test_a_data_worker_that_dies_ends_all_and_is_named(rank_forker, seen, do):
    fault = {"rank": 1, "stage": "reading", "nth": 20, "do": do}
    ranks = rank_forker.start(f"worker-{do}", fault, train__workers=1, train__step_timeout=30)
    ranks.wait_until_reached()
    seconds = ranks.ended()
    assert 0 not in ranks.codes.values(), ranks.text()[-3000:]
    assert "rank 1" in ranks.text()
    assert ("a data-loading process died" if do == "kill" else "a fault was injected") in ranks.text()
    seen(f"both ended after {seconds:.1f} s, rc {ranks.codes}; named")
