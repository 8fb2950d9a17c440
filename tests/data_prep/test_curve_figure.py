"""Curves: marks have their text and step, axes several ticks, long curves a mean; equal numbers give equal bytes."""

import doctest
import math
import re

import pytest
from matplotlib.figure import Figure

from data_prep import curve_figure as module
from data_prep.curve_figure import Curve, Mark, curve_figure, log_ticks, readable_ticks

SPIKY = Curve("talk <b>", [(step, 9.0 if step == 40 else 2 + math.sin(step)) for step in range(1, 101)])


@pytest.mark.slow
def test_each_mark_has_its_text_and_each_kind_of_mark_one_entry_in_the_legend():
    marks = [Mark(step, "alarm", f"<loss> at {step}", "#c62828") for step in (40, 60)]
    svg = curve_figure([SPIKY], marks, "loss")
    assert "<title>&lt;loss&gt; at 40</title>" in svg
    assert "<title>&lt;loss&gt; at 60</title>" in svg
    assert svg.count(">alarm</text>") == 1
    assert ">talk &lt;b&gt;</text>" in svg
    assert ">optimizer step</text>" in svg


def test_a_step_that_comes_again_begins_a_new_line():
    points = [(1, 2.0), (2, 3.0), (3, 4.0), (2, 3.0), (3, 3.5)]
    assert curve_figure([Curve("a", points)], [], "loss").count('<g class="curve">') == 2


def test_values_that_a_logarithmic_axis_cannot_show_are_left_out():
    for points in ([], [(1, math.nan), (2, 0.0), (3, -1.0)]):
        assert curve_figure([Curve("a", points)], [Mark(9, "alarm", "late", "#c62828")], "loss").startswith("<svg")


def test_equal_numbers_give_equal_bytes_and_load_nothing():
    first, second = (curve_figure([SPIKY], [], "loss") for _ in range(2))
    assert first == second
    assert "http" not in first
    assert "<metadata" not in first


@pytest.mark.parametrize(
    "span",
    [
        (0.65, 1.9),
        (0.62, 1.95),
        (1.99, 2.01),
        (1, 9),
        (0.9, 3.1),
        (0.02, 5),
        (1e-3, 1e3),
        (1e-8, 1e8),
        (1e-300, 1e300),
        (7e-5, 9e-5),
    ],
)
def test_a_logarithmic_axis_has_several_ticks_whatever_it_spans(span):
    ticks = log_ticks(*span)
    third = (span[1] / span[0]) ** (1 / 3)
    assert ticks[0] <= span[0] * third and ticks[-1] >= span[1] / third, "also near both ends"
    assert 3 <= len(ticks) <= 13
    assert span[0] <= ticks[0] < ticks[-1] <= span[1]


@pytest.mark.parametrize("last", [3.4, 3.6, 2.1, 0.35, 1.05])
@pytest.mark.parametrize("first", [5.5, 9.0, 12.0, 16.0, 60.0])
def test_the_lowest_tick_of_a_loss_is_near_its_end(first, last):
    low, high = last / 1.02, first * 1.02
    assert math.log(log_ticks(low, high)[0] / low) <= 0.4 * math.log(high / low)
    assert log_ticks(3.6, 16.0)[0] == 4.0


@pytest.mark.parametrize(("value", "axis"), [(0.0, (0.0, 1.0)), (50.0, (45.0, 55.0))])
def test_a_level_line_has_an_axis_of_possible_values(value, axis):
    axes = Figure().subplots()
    axes.plot([1, 2], [value, value])
    readable_ticks(axes, [value, value], logarithmic=False)
    assert axes.get_ylim() == axis


@pytest.mark.slow
def test_a_long_curve_is_pale_with_its_mean_and_a_measured_one_has_marks_alone():
    points = [(step, 1.0 + step % 3) for step in range(1, 200)]
    assert 'class="values"' in curve_figure([Curve("a", points)], [], "loss")
    assert 'class="values"' not in curve_figure([Curve("a", points, measured=True)], [], "loss")
    assert 'class="values"' not in curve_figure([Curve("a", points[:50])], [], "loss")


@pytest.mark.slow
def test_a_mark_is_at_its_step_where_the_curve_begins_later():
    def x_of(svg: str) -> float:
        return float(re.search(r'class="mark">.*?<path d="M ([0-9.]+) ', svg, flags=re.DOTALL)[1])

    late = Curve("held out", [(80, 1.0), (100, 0.5)], measured=True)
    marks = [Mark(50, "alarm", "text", "#c62828")]
    first, middle = (x_of(curve_figure([late], marks, "loss", span=span)) for span in ((80, 100), (0, 100)))
    assert middle > first + 100


def test_the_examples_in_the_docstrings_hold():
    assert doctest.testmod(module).failed == 0
    assert doctest.testmod(module).attempted >= 3
