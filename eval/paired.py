"""Compares two evaluations of the same items: is the difference significant?

    python -m eval.paired runs/a/eval/open_world/export runs/b/eval/open_world/export        # every pair of folders
    python -m eval.paired runs/a/eval/open_world/export --rescore match=word synonyms=auto   # one run, scored twice

A folder holds answers, or a report that rescores another folder's answers (`eval.reproduce`: synonyms, rules,
candidate sets). Accuracies of two runs on the same items are not independent: only the items on which they disagree are
informative. McNemar's exact test (binomial) tests whether either run is correct on more of these. Where questions share
images or answers earn parts of a point, the interval is a bootstrap over images, and the test flips signs of images.
"""

import sys
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import yaml

from configs.command_line import add_json, command_parser, emit_json, exit_on_user_error
from configs.errors import ConfigError, RunError, UserError
from configs.eval_dir import EvalDir
from configs.layers import yaml_problem
from configs.protocol import ProtocolConfig
from configs.value_types import wrong_type
from eval.metrics.grouped import compare_points_pairs
from eval.metrics.outcomes import read_items, read_points


def main(argv: Sequence[str] | None = None) -> None:
    """Compare folders of answers. Exits with code 2 if they cannot be compared."""
    parser = command_parser(__doc__)
    parser.add_argument(
        "folders", nargs="+", type=Path, metavar="FOLDER", help="folder of one model's answers, or of a rescored report"
    )
    parser.add_argument(
        "--rescore",
        nargs="+",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="score the first folder's answers again with these settings",
    )
    add_json(parser)
    arguments = parser.parse_args(argv)
    try:
        scored = {str(folder): read_points(EvalDir(folder)) for folder in arguments.folders}
        notes = item_notes(arguments.folders)
        for settings in arguments.rescore:
            changes = read_settings(settings)
            scored[", ".join(settings)] = read_points(EvalDir(arguments.folders[0]), changes)
        if len(scored) < 2:
            raise ConfigError(f"there is only {next(iter(scored))}; give another folder, or --rescore KEY=VALUE")
        pairs = compare_points_pairs(scored)
    except UserError as error:
        exit_on_user_error(error)
    for note in notes:
        print(note, file=sys.stderr)
    if not emit_json(arguments.json, pairs):
        print(as_text(pairs))


def item_notes(folders: Sequence[Path]) -> list[str]:
    """A sentence for each pair of folders whose items are from different shards.

    Raises `RunError` if items with the same id have different classes.
    """
    items = {folder: read_items(EvalDir(folder)) for folder in folders}
    notes = []
    for first, second in combinations(items, 2):
        try:
            note = items[first].differs(items[second])
        except RunError as error:
            raise RunError(f"{first} and {second}: {error}") from error
        notes += [f"{first} and {second}: {note}"] if note else []
    return notes


def read_settings(settings: Sequence[str]) -> dict[str, Any]:
    """Protocol settings given as KEY=VALUE, values parsed as YAML. Raises `ConfigError` for another form."""
    changes: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.removeprefix("protocol.").partition("=")
        if not equals:
            raise ConfigError(f"--rescore {setting!r} is not of the form KEY=VALUE")
        try:
            changes[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"--rescore {setting!r}: the value is not valid YAML ({yaml_problem(error)})") from error
    if wrong := wrong_type(ProtocolConfig, changes):
        raise ConfigError(f"--rescore: {wrong}")
    return changes


def _disagreement(pair: Mapping[str, Any]) -> str:
    """On how many items the two differ, and the test: McNemar's, or by images (`eval.metrics.grouped`)."""
    if "groups" not in pair:
        counts = f"only the first is correct on {pair['first_only']:,}, only the second on {pair['second_only']:,}"
        return f"{counts}: McNemar's exact test"
    counts = f"the first has more points on {pair['first_only']:,}, the second on {pair['second_only']:,}"
    return f"{counts}: interval and test over {pair['groups']:,} images, bootstrap and sign flips"


def as_text(pairs: Sequence[Mapping[str, Any]]) -> str:
    """Three lines per pair, and a fourth if items are excluded."""
    return "\n".join(
        f"{pair['first']} and {pair['second']}:\n"
        f"  {'points' if 'groups' in pair else 'correct'} {pair['first_correct']:,} and {pair['second_correct']:,} of "
        f"the same {pair['items']:,} items: difference {100 * pair['difference']:+.1f} points "
        f"(95 %: {100 * pair['low']:+.1f} to {100 * pair['high']:+.1f})\n"
        f"  {_disagreement(pair)}{',' if 'groups' in pair else ''} p = {pair['p_value']:.2g}"
        + (f"\n  left out: {pair['left_out']:,} items that only one of them answered" if pair["left_out"] else "")
        for pair in pairs
    )


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    main()
