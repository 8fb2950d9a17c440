"""Plots: no spike is lost by thinning, and matplotlib is loaded late."""

import doctest
import subprocess
import sys

from data_prep import figures
from data_prep.figures import CURVE_POINTS, thinned


def test_thinning_keeps_the_spike():
    points = [(step, 1.0) for step in range(100_000)]
    points[54_321] = (54_321, 50.0)
    thin = thinned(points, CURVE_POINTS)
    assert len(thin) == CURVE_POINTS
    assert (54_321, 50.0) in thin


def test_few_points_are_all_kept():
    assert thinned([(1, 2.0)], 5) == [(1, 2.0)]


def test_matplotlib_is_loaded_by_the_first_plot_only():
    code = "import data_prep.figures, sys; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_examples_in_the_docstrings_hold():
    assert doctest.testmod(figures).failed == 0
    assert doctest.testmod(figures).attempted >= 2
