import json

import pytest

from data_prep.benchmarks import shards
from data_prep.benchmarks.timing import best_cpu_seconds, made_jpeg
from data_prep.images import check_image


def test_both_sides_take_turns_and_the_warm_up_does_not_count():
    calls = []
    sides = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}
    best = best_cpu_seconds(sides, rounds=2, before=lambda: calls.append("-"))
    assert "".join(calls) == "-a-b" * 3
    assert all(0 <= seconds < 1 for seconds in best.values())


@pytest.mark.parametrize(("side", "low", "high"), [(500, 95_000, 130_000), (96, 4_500, 7_500)])
def test_made_pictures_have_the_size_and_weight_they_stand_for(side, low, high):
    data = made_jpeg(1, side)
    assert check_image(data) == (side, side * 3 // 4)
    assert low < len(data) < high


@pytest.mark.slow
def test_every_figure_is_printed_and_a_missed_goal_is_exit_code_1(tmp_path, capsys, monkeypatch):
    pytest.importorskip("webdataset", reason="webdataset is not installed")
    monkeypatch.setattr(shards, "GOALS", {"build": 0.0, "two_processes": 0.0, "read": 1e6})
    with pytest.raises(SystemExit) as stop:
        shards.main(["all", "--json", "--images", "8", "--rounds", "1", "--folder", str(tmp_path)])
    assert stop.value.code == 1, "no reader is a million times as fast"
    figures = json.loads(capsys.readouterr().out)
    assert set(figures) == {f"{what} {size}" for what in ("scale", "build", "read") for size in ("110KB", "6KB")}
    assert all(value > 0 for values in figures.values() for value in values.values())
    assert list(tmp_path.iterdir()) == [], "what was written is removed"
