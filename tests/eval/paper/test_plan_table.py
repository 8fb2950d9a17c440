"""The plan and the outcome of a reproduction as text."""

from dataclasses import replace

from eval.paper.execute import Outcome
from eval.paper.plan_table import outcome_table


def test_the_columns_are_as_wide_as_the_longest_data_set_name():
    rate = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 480}
    names = ("cifar10", "demo_existence_adversarial")
    table = outcome_table([Outcome(name, "yes_no", "is it there", "Table 13", accuracy=rate) for name in names])
    header, *rows = table.splitlines()[:3]
    assert {row.index("yes_no") for row in rows} == {header.index("row")}
    assert {row.index("480") + 3 for row in rows} == {header.index(" n ") + 2}


def test_answers_without_a_grade_are_no_result():
    rate = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 480}
    waiting = Outcome("open", "graded", "open answers", "Table 13", note="40 answers, not graded yet: eval.grade")
    rows = [Outcome("a", "vqa", "questions", "Table 13", accuracy=rate), waiting, replace(waiting, accuracy=rate)]
    assert outcome_table(rows).endswith("2 of 3 rows have a result, 1 not graded yet")
    baseline = Outcome("a", "random", "chance", "Table 1", note="1.0% of 480")
    assert outcome_table([baseline]).endswith("1 of 1 rows have a result"), "its number is in the note"
