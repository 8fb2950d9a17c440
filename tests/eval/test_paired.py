"""Paired tests, confusions, and the command that compares two runs."""

import itertools
import json
import math
import shutil
from fractions import Fraction

import pytest

from configs.errors import RunError
from configs.eval_dir import EvalDir
from configs.evaluation import EvalConfig
from configs.load import load_config
from eval.metrics.confusion import confusions
from eval.metrics.grouped import ItemPoints, compare_points_pairs
from eval.metrics.paired import PairedDifference, compare_correct, mcnemar
from eval.paired import as_text, main
from eval.reports.evaluation import write_view
from eval.run import main as evaluate


@pytest.mark.parametrize(("first", "second"), [*itertools.product(range(5), repeat=2), (2, 8), (40, 61), (500, 700)])
def test_the_p_value_is_the_exact_binomial_one(first, second):
    total = first + second
    tail = sum(Fraction(math.comb(total, number), 2**total) for number in range(min(first, second) + 1))
    assert mcnemar(first, second) == pytest.approx(float(min(1, 2 * tail)))


def test_only_items_of_both_runs_count_and_only_disagreements_decide():
    first = {"a": True, "b": True, "c": False, "d": False, "only": True}
    second = {"a": True, "b": False, "c": True, "d": True}
    paired = compare_correct(first, second)
    assert paired == PairedDifference(4, 2, 3, 1, 2, left_out=1)
    assert paired.difference == pytest.approx(0.25)
    assert paired.interval[0] < 0.25 < paired.interval[1]
    assert paired.to_json()["p_value"] == mcnemar(1, 2) == 1.0


def test_items_that_only_one_run_answered_are_counted_in_the_output():
    right, wrong = ItemPoints(1.0), ItemPoints(0.0)
    runs = {"a": {"x": right, "y": wrong, "z": right}, "b": {"x": wrong, "w": right}}
    assert "left out: 3 items that only one of them answered" in as_text(compare_points_pairs(runs))
    assert "left out" not in as_text(compare_points_pairs({"a": {"x": right}, "b": {"x": wrong}}))


def test_runs_without_a_common_item_are_refused():
    with pytest.raises(RunError, match="no item in common"):
        compare_correct({"a": True}, {"b": True})


def test_confusions_are_ordered_and_know_their_reverse():
    pairs = [("fox", "dog"), ("fox", "dog"), ("dog", "fox"), ("ox", "ox"), ("cat", "dog")]
    assert confusions(pairs, {"fox": 3, "dog": 4, "cat": 5}, most=2) == [
        {"class": "fox", "predicted_as": "dog", "count": 2, "n": 3, "reverse_count": 1, "reverse_n": 4},
        {"class": "cat", "predicted_as": "dog", "count": 1, "n": 5, "reverse_count": 0, "reverse_n": 4},
    ]


@pytest.mark.parametrize(("first_only", "second_only"), [(0, 0), (0, 3), (4, 1)])
def test_the_interval_is_agresti_and_mins(first_only, second_only):
    """Written out with all four cells: half an item more in each."""
    cells = [10 - first_only + 0.5, first_only + 0.5, second_only + 0.5, 10 - second_only + 0.5]
    total = sum(cells)
    gained, lost = cells[2] / total, cells[1] / total
    spread = 1.959964 * math.sqrt((gained + lost - (gained - lost) ** 2) / total)
    found = PairedDifference(20, 10, 10 + second_only - first_only, first_only, second_only).interval
    assert found == pytest.approx((gained - lost - spread, gained - lost + spread), abs=1e-6)
    assert found[0] < found[1]


@pytest.fixture
def asked(write_config, tmp_path, capsys):
    """Two runs of other wordings, the first with answers that say the class, in half of them within a word."""
    evaluate(["--config", str(write_config())])
    evaluate(["--config", str(write_config(output=str(tmp_path / "other"), protocol={"prompt": "identify"}))])
    file = EvalDir(tmp_path / "answers").predictions(0)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    told = [line | {"answer": f"{line['target']}{'s' * (number % 2)}"} for number, line in enumerate(lines)]
    file.write_text("".join(f"{json.dumps(line)}\n" for line in told))
    capsys.readouterr()
    return tmp_path / "answers", tmp_path / "other"


def pairs(capsys, *arguments: object) -> list[dict]:
    main([*map(str, arguments), "--json"])
    return json.loads(capsys.readouterr().out)


@pytest.mark.slow
def test_every_pair_of_folders_is_compared(asked, tmp_path, capsys):
    shutil.copytree(asked[0], tmp_path / "copy")
    found = pairs(capsys, *asked, tmp_path / "copy")
    assert [(pair["first_correct"], pair["second_correct"], pair["items"]) for pair in found] == [
        (15, 0, 15), (15, 15, 15), (0, 15, 15),
    ]  # fmt: skip
    assert found[0]["first"] == str(asked[0])
    main([*map(str, asked)])
    assert "McNemar's exact test p = 6.1e-05" in capsys.readouterr().out


@pytest.mark.slow
def test_one_runs_answers_are_compared_under_two_ways_of_judging(asked, capsys):
    (pair,) = pairs(capsys, asked[0], "--rescore", "match=word")
    assert (pair["first_correct"], pair["second_correct"], pair["second"]) == (15, 8, "match=word")
    (pair,) = pairs(capsys, asked[0], "--rescore", "protocol.match=contains", "synonyms=null")
    assert pair["first_correct"] == pair["second_correct"] == 15


@pytest.mark.slow
def test_a_folder_judged_again_counts_as_it_was_judged_last(asked, write_config, capsys):
    """evaluation.json keeps the configuration of the asking."""
    evaluate(["--config", str(write_config(protocol={"match": "word"})), "--report-only"])
    capsys.readouterr()
    (pair,) = pairs(capsys, *asked)
    assert pair["first_correct"] == 8


@pytest.mark.slow
def test_a_view_counts_as_it_judges_the_answers_of_another_folder(asked, write_config, tmp_path, capsys):
    config, _ = load_config(EvalConfig, write_config(protocol={"match": "word"}), [])
    write_view(EvalDir(asked[0]), EvalDir(tmp_path / "views" / "word"), config)
    (pair,) = pairs(capsys, asked[0], tmp_path / "views" / "word")
    assert (pair["first_correct"], pair["second_correct"]) == (15, 8)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{answers}", "nowhere"], "nowhere has no evaluation.json"),
        (["{answers}"], "give another folder, or --rescore"),
        (["{answers}", "--rescore", "prompt=identify"], "protocol.prompt needs other answers"),
        (["{answers}", "--rescore", "match"], "not of the form KEY=VALUE"),
        (["{answers}", "--rescore", "match=fuzzy"], "match is 'fuzzy'"),
    ],
)
def test_what_cannot_be_compared_is_one_line(asked, capsys, arguments, message):
    with pytest.raises(SystemExit) as left:
        main([text.format(answers=asked[0]) for text in arguments])
    assert left.value.code == 2
    assert message in capsys.readouterr().err
