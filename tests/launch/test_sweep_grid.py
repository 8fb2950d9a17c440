"""The settings of a sweep as typed: what is combined, what goes in step, and what is refused before anything starts."""

import pytest

from configs.errors import ConfigError
from launch.sweep_grid import combinations, parse_values, split_values


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("1e-5,2e-5", ["1e-5", "2e-5"]),
        ("[a,b],[c]", ["[a,b]", "[c]"]),
        ("{a: 1, b: 2},null", ["{a: 1, b: 2}", "null"]),
        ('"a,b",c', ['"a,b"', "c"]),
        ("it's, fine", ["it's", "fine"]),
        ("1,", ["1", ""]),
    ],
)
def test_values_are_split_at_commas_outside_brackets_and_quotes(text, parts):
    assert split_values(text) == parts


def test_grids_are_combined_and_lists_go_in_step():
    found = combinations(["a.x=1,2", "b=3"], ["c=5,6", "d=7,8"])
    assert found == [
        (("a.x", x), ("b", "3"), ("c", c), ("d", d)) for x in ("1", "2") for c, d in (("5", "7"), ("6", "8"))
    ]
    assert combinations([], ["a=1,2"]) == [(("a", "1"),), (("a", "2"),)]


@pytest.mark.parametrize(
    ("grids", "lists", "message"),
    [
        ([], [], "nothing is swept"),
        (["optim.lr"], [], "--grid 'optim.lr' is not of the form"),
        (["optim.lr="], [], "empty value"),
        (["optim.lr=1,,2"], [], "empty value"),
        (["optim.lr=1,1"], [], "has 1 twice"),
        (["optim.lr=1,2", "optim.lr=3"], [], "optim.lr is swept twice"),
        (["optim.lr=1"], ["optim.lr=2"], "optim.lr is swept twice"),
        (["optim={a: 1}", "optim.lr=3"], [], "one contains the other"),
        ([], ["a=1,2", "b=1,2,3"], "a has 2, b has 3"),
        (["name=a,b"], [], "the sweep names its runs"),
        (["seed=1,2"], [], "--seeds"),
        (["evaluate=[a],[b]"], [], "--evaluate"),
        (["logging.project=a,b"], [], "same for all runs"),
        (["optim.lr=[1,2"], [], "not valid YAML"),
    ],
)
def test_a_mistake_is_refused_and_named(grids, lists, message):
    with pytest.raises(ConfigError) as error:
        combinations(grids, lists)
    assert message in str(error.value)


def test_a_secret_is_refused_and_not_repeated():
    with pytest.raises(ConfigError, match="looks like a secret") as error:
        parse_values("data.options.api_key=abcdefgh,ijklmnop", "--grid")
    assert "abcdefgh" not in str(error.value) and "ijklmnop" not in str(error.value)
