"""Plots: no spike is lost by thinning, marks have their text, equal numbers give equal bytes."""

import doctest
import math
import subprocess
import sys

import pytest

from data_prep import figures
from data_prep.figures import CURVE_POINTS, Curve, Mark, curve_figure, thinned

SPIKY = Curve("talk <b>", [(step, 9.0 if step == 40 else 2 + math.sin(step)) for step in range(1, 101)])


def test_thinning_keeps_the_spike():
    points = [(step, 1.0) for step in range(100_000)]
    points[54_321] = (54_321, 50.0)
    thin = thinned(points, CURVE_POINTS)
    assert len(thin) == CURVE_POINTS
    assert (54_321, 50.0) in thin


def test_few_points_are_all_kept():
    assert thinned([(1, 2.0)], 5) == [(1, 2.0)]


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


def test_matplotlib_is_loaded_by_the_first_plot_only():
    code = "import data_prep.figures, sys; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_examples_in_the_docstrings_hold():
    assert doctest.testmod(figures).failed == 0
    assert doctest.testmod(figures).attempted >= 2
