"""A rank that is killed: the others end, say who, where and in which stage, and a resumed run has lost nothing."""

import pytest

from train.checkpoints.reading import newest_checkpoint

pytestmark = pytest.mark.slow

PLACES = {  # where the rank is killed: the fault, and the stage its peer then finds itself in
    "data wait": ({"stage": "reading", "nth": 30, "do": "kill"}, "agreement"),
    "forward": ({"stage": "forward/backward", "step": 5, "nth": 2, "do": "kill"}, "forward/backward"),
    "all-reduce": ({"stage": "exchange", "step": 5, "do": "kill inside"}, "exchange"),
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
        faults.append({"rank": 1 - rank, "stage": "exchange", "step": 5, "do": "hold", "seconds": 1.0})
    name = f"killed-{place.replace(' ', '-')}-{rank}"
    ranks = rank_forker.start(name, *faults, train__step_timeout=20)
    ranks.wait_until_reached()
    ranks.ended()
    assert ranks.codes[rank] == -9
    assert ranks.codes[1 - rank] not in (0, -9)
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
