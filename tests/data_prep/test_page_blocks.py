"""Charts, galleries and folded parts of a page."""

import doctest
import json
import re
from html import unescape

import pytest

from data_prep import page_charts, page_gallery
from data_prep.curve_figure import COLOURS, Curve, curve_figure
from data_prep.page import Definitions, Folded, Heading, Page, Table, Text
from data_prep.page_charts import LONG_BARS, NUMBERED_COLUMNS, Bar, Bars, HeatMap
from data_prep.page_gallery import Gallery, Tile


def test_a_bar_begins_at_zero_and_its_interval_lies_on_the_axis():
    ticks = ((-1.0, "-1"), (0.0, "0"), (1.0, "1"))
    page = Page("T", [Bars([Bar("a", -0.5, "-50", -0.75, 0.25)], "c", ticks)]).html()
    assert 'class="fill" style="left:25%;width:25%"' in page
    assert 'class="whisker" style="left:12.5%;width:50%"' in page


def test_a_value_that_is_not_known_has_a_text_and_no_bar():
    page = Page("T", [Bars([Bar("a", None, "not run")], "c")]).html()
    assert "not run" in page
    assert 'class="fill"' not in page


def test_many_bars_are_folded_and_all_are_there():
    bars = [Bar(f"bar {number}", 0.5, "50 %") for number in range(3 * LONG_BARS)]
    page = Page("T", [Bars(bars, "c")]).html()
    assert f"show {2 * LONG_BARS} more" in page
    assert page.count('class="fill"') == 3 * LONG_BARS


def test_a_heat_map_has_a_number_a_tooltip_and_another_colour_for_what_is_no_confusion():
    page = Page("T", [HeatMap(("cat",), ("cat", "dog"), [[3, 1]], "right", "answer", "c", (5,))]).html()
    assert 'class="same" style="--v:72" title="cat → cat: 3 of 5">3<' in page
    assert 'class="other" style="--v:44" title="cat → dog: 1 of 5">1<' in page


def test_a_heat_map_of_many_classes_has_its_numbers_in_tooltips_only():
    names = [f"n{number}" for number in range(NUMBERED_COLUMNS + 1)]
    page = Page("T", [HeatMap(names, names, [[7] * len(names)] * len(names), "r", "a", "c")]).html()
    assert ">7<" not in page
    assert "n0 → n1: 7 of" in page


def test_the_filters_of_a_gallery_have_every_value_with_its_count():
    tiles = [Tile(b"x", name, (), {"class": name, "set": "one"}) for name in ("dog", "cat", "dog")]
    page = Page("T", [Folded("more", [Gallery(tiles, "three of nine")])]).html()
    assert '<option value="cat">cat (1)</option><option value="dog">dog (2)</option>' in page
    assert '<select name="set"' not in page  # there is nothing to choose
    assert "<script>" in page


def test_a_tile_cannot_leave_its_attribute():
    bad = "\"'><script>alert(1)</script>"
    page = Page("T", [Gallery([Tile(None, bad, ((bad, bad),), {"class": bad}, "bad")], bad)]).html()
    assert "<script>alert" not in page
    assert json.loads(unescape(re.search(r'data-tags="([^"]*)"', page)[1])) == {"class": bad}
    assert "<img" not in page


def test_a_page_without_a_gallery_has_no_script():
    assert "<script" not in Page("T", [Text("t")]).html()


def test_folded_blocks_are_in_both_formats_and_not_in_the_contents():
    page = Page("T", [Folded("rest", [Heading("inside"), Table(("a",), [["cell"]])])])
    assert '<details class="part"><summary>rest</summary>' in page.html()
    assert "### rest\n\n## inside\n\n| a |" in page.markdown()


def test_definitions_are_a_list_in_markdown():
    assert "- model: llava\n- data: pets" in Page("T", [Definitions([("model", "llava"), ("data", "pets")])]).markdown()


@pytest.mark.slow
def test_a_figure_takes_the_colours_of_the_page_and_keeps_its_text_readable():
    figure = curve_figure([Curve("a", [(1, 2.0), (2, 3.0)])], [], "loss")
    assert f"stroke: var(--c0, {COLOURS[0]})" in figure
    assert not re.search(r"(fill|stroke): #000000", figure)


def test_the_examples_in_the_docstrings_hold():
    assert doctest.testmod(page_charts).failed == doctest.testmod(page_gallery).failed == 0
