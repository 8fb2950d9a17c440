"""The settings of a sweep from its options: pure text to lists of `key=value`.

    combinations(["optim.lr_projector=1e-5,2e-5", "train.epochs=1,3"], [])    four: every value with every other
    combinations([], ["optim.lr_projector=1e-5,2e-5", "train.epochs=3,1"])    two: first with first, second with second

A comma inside brackets or quotes belongs to its value: `--grid model.lora.scope=[language],[language,vision]`.
"""

import itertools
from collections.abc import Sequence

from configs.errors import ConfigError
from configs.layers import override_layer

GRID, LIST = "--grid", "--list"
OPENING, CLOSING, QUOTES = "[{(", "]})", "\"'"
SET_BY_THE_SWEEP = {
    "name": "the sweep names its runs; set the beginning of their names with --set name=…",
    "seed": "give the number of seeds with --seeds, and the first with --set seed=…",
    "runs_dir": "all runs of a sweep lie in one folder; set it with --set",
    "evaluate": "all runs are evaluated alike; name evaluations with --evaluate",
}
SAME_FOR_ALL = ("slurm", "logging")  # sections

Setting = tuple[str, str]
"""Key and value, as typed."""


def combinations(grids: Sequence[str], lists: Sequence[str]) -> list[tuple[Setting, ...]]:
    """Every combination of values: the product of all `grids` and of the `lists`, which go in step with each other.

    Raises `ConfigError` for options of another form, a key given twice, or lists of different lengths.
    """
    axes = [parse_values(text, GRID) for text in grids]
    columns = [parse_values(text, LIST) for text in lists]
    keys = [key for key, _ in (*axes, *columns)]
    if not keys:
        raise ConfigError(f"nothing is swept; give {GRID} KEY=VALUE,VALUE or {LIST} KEY=VALUE,VALUE")
    for key in keys:
        if keys.count(key) > 1:
            raise ConfigError(f"{key} is swept twice; give all its values in one option")
        other = next((one for one in keys if one.startswith(f"{key}.")), None)
        if other:
            raise ConfigError(f"{key} and {other} are swept, and one contains the other; sweep one of them")
    lengths = {len(values) for _, values in columns}
    if len(lengths) > 1:
        counts = ", ".join(f"{key} has {len(values)}" for key, values in columns)
        raise ConfigError(f"{LIST} options go in step, so each needs as many values: {counts}")
    zipped = list(zip(*([(key, value) for value in values] for key, values in columns), strict=True)) or [()]
    product = itertools.product(*([(key, value) for value in values] for key, values in axes))
    return [(*one, *row) for one in product for row in zipped]


def parse_values(text: str, option: str) -> tuple[str, list[str]]:
    """Key and values of `key=value,value`. Raises `ConfigError` for another form, or a key that a sweep cannot vary.

    >>> parse_values("model.lora.scope=[language],[language,vision]", "--grid")
    ('model.lora.scope', ['[language]', '[language,vision]'])
    """
    key, equals, values = text.partition("=")
    try:  # refuses secrets before any message repeats them, and malformed keys
        for one in split_values(values):
            override_layer(f"{key}{equals}{one}")
    except ConfigError as error:
        raise ConfigError(str(error).replace("--set", option, 1)) from error
    first = key.split(".")[0]
    if key in SET_BY_THE_SWEEP:
        raise ConfigError(f"{option} {key}: {SET_BY_THE_SWEEP[key]}")
    if first in SAME_FOR_ALL:
        raise ConfigError(f"{option} {key}: {first} is the same for all runs and changes no result; set it with --set")
    found = split_values(values)
    if "" in found:
        raise ConfigError(f"{option} {text!r} has an empty value; write null for none, or '' for an empty text")
    for value in found:
        if found.count(value) > 1:
            raise ConfigError(f"{option} {text!r} has {value} twice")
    return key, found


def split_values(text: str) -> list[str]:
    """Parts between commas that are in no brackets or quotes, stripped.

    >>> split_values("1e-5, [a,b],'x,y'")
    ['1e-5', '[a,b]', "'x,y'"]
    """
    parts, depth, quote = [""], 0, ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in QUOTES and not parts[-1].strip():
            quote = character
        else:
            depth += (character in OPENING) - (character in CLOSING)
        if character == "," and not quote and depth <= 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]
