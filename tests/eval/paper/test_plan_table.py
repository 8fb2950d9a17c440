"""The plan and the outcome of a reproduction as text."""

from eval.paper.execute import Outcome
from eval.paper.plan_table import outcome_table


def test_the_columns_are_as_wide_as_the_longest_data_set_name():
    rate = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 480}
    names = ("cifar10", "demo_existence_adversarial")
    table = outcome_table([Outcome(name, "yes_no", "is it there", "Table 13", accuracy=rate) for name in names])
    header, *rows = table.splitlines()[:3]
    assert {row.index("yes_no") for row in rows} == {header.index("row")}
    assert {row.index("480") + 3 for row in rows} == {header.index(" n ") + 2}
