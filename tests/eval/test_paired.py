"""Paired tests, confusions, and the command that compares two runs."""

import itertools
import json

import pytest
from scipy.stats import binomtest

from configs.errors import RunError
from eval.paired import Paired, compare_right, main, mcnemar
from eval.reporting.confusion import confusions
from eval.run import main as evaluate


@pytest.mark.parametrize(("first", "second"), [*itertools.product(range(5), repeat=2), (2, 8), (40, 61), (500, 700)])
def test_the_p_value_is_the_exact_binomial_one(first, second):
    total = first + second
    expected = binomtest(min(first, second), total, 0.5).pvalue if total else 1.0
    assert mcnemar(first, second) == pytest.approx(expected)


def test_only_items_of_both_runs_count_and_only_disagreements_decide():
    first = {"a": True, "b": True, "c": False, "d": False, "only": True}
    second = {"a": True, "b": False, "c": True, "d": True}
    paired = compare_right(first, second)
    assert paired == Paired(4, 2, 3, 1, 2)
    assert paired.difference == pytest.approx(0.25)
    assert paired.interval[0] < 0.25 < paired.interval[1]
    assert paired.to_json()["p_value"] == mcnemar(1, 2) == 1.0


def test_runs_without_a_common_item_are_refused():
    with pytest.raises(RunError, match="no item in common"):
        compare_right({"a": True}, {"b": True})


def test_confusions_are_ordered_and_know_their_reverse():
    pairs = [("fox", "dog"), ("fox", "dog"), ("dog", "fox"), ("ox", "ox"), ("cat", "dog")]
    assert confusions(pairs, most=2) == [
        {"class": "fox", "taken_for": "dog", "times": 2, "reverse": 1},
        {"class": "cat", "taken_for": "dog", "times": 1, "reverse": 0},
    ]


def test_two_evaluations_are_compared_by_their_folders(write_config, tmp_path, capsys):
    evaluate(["--config", str(write_config())])
    evaluate(["--config", str(write_config(output=str(tmp_path / "other"), protocol={"prompt": "identify"}))])
    capsys.readouterr()
    main([str(tmp_path / "answers"), str(tmp_path / "other"), "--json"])
    assert json.loads(capsys.readouterr().out)["items"] == 15
    main([str(tmp_path / "answers"), str(tmp_path / "other")])
    assert "McNemar" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main([str(tmp_path / "answers"), str(tmp_path / "nowhere")])
    assert "has no evaluation.json" in capsys.readouterr().err
