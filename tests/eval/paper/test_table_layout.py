"""The paper's tables in the paper's layout: no number is lost, and each of ours is next to its row's."""

import doctest
from collections import Counter

import pytest

from eval.paper import scoreboard_page
from eval.paper.published import paper_numbers
from eval.paper.table_layout import grids, number


def lines_of(table: str) -> list[dict]:
    known = [row for row in paper_numbers().values() if row.row.split("/")[0] == table]
    return [{"row": n.row, "paper": n.value, "unit": n.unit, "ours": None, "difference": None} for n in known]


@pytest.mark.parametrize("table", sorted({row.split("/")[0] for row in paper_numbers()}))
def test_every_number_of_a_table_is_in_its_layout_once(table):
    lines = lines_of(table)
    printed = Counter("n/a" if x["paper"] is None else number(x["paper"], x["unit"]) for x in lines)
    found = grids(table, lines)
    shown = Counter(text for grid in found for row in grid.paper(list(grid.cells)).rows for text in row[1:] if text)
    assert shown == printed
    assert all(grid.run() == [] for grid in found)
    assert len({grid.title for grid in found}) == len(found)


def test_table_1_has_a_row_a_model_and_a_column_a_data_set():
    first, second = grids("table1", lines_of("table1"))
    assert (first.title, second.title) == ("open world", "closed world")
    assert first.columns == ["ImageNet", "Flowers102", "StanfordCars", "Caltech101"]
    assert next(iter(first.cells)) == "BLIP2-2.7B"


def test_several_results_share_a_cell_and_an_empty_one_says_so():
    lines = lines_of("table1")[:4]
    ours = {"value": 0.3, "low": 0.2, "high": 0.4}
    doubled = [lines[0] | {"ours": ours, "difference": 0.047}, lines[0] | {"ours": ours | {"value": None}}, *lines[1:]]
    (grid,) = grids("table1", doubled)
    assert grid.run() == ["BLIP2-2.7B"]
    assert grid.compared(grid.run()).rows[0][:5] == ["BLIP2-2.7B", "25.3", "30.0 (+4.7); n/a", "27.0", "–"]


def test_the_examples_in_the_docstrings_hold():
    assert doctest.testmod(scoreboard_page).failed == 0
    assert doctest.testmod(scoreboard_page).attempted >= 3
