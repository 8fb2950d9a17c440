"""Any error in one line."""

import doctest

import pytest

from configs import errors
from configs.errors import first_line, kind_and_line


@pytest.mark.parametrize(
    ("error", "line", "with_kind"),
    [
        (ValueError("one\ntwo"), "one", "ValueError: one"),
        (ValueError("\n  two"), "two", "ValueError: two"),
        (ValueError("one:\n\n  two\nthree"), "one: two", "ValueError: one: two"),
        (AssertionError(), "AssertionError", "AssertionError"),
    ],
)
def test_an_error_is_one_line_also_if_it_says_nothing(error, line, with_kind):
    assert (first_line(error), kind_and_line(error)) == (line, with_kind)


def test_the_examples_in_the_docstrings_hold():
    assert doctest.testmod(errors).failed == 0
