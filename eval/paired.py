"""Two runs on the same items: do they differ by more than chance?

    python -m eval.paired runs/a/eval/open_world/export runs/b/eval/open_world/export        # every pair of folders
    python -m eval.paired runs/a/eval/open_world/export --judged match=word synonyms=auto    # one run, judged twice

A folder holds answers, or a view that rescores answers (`eval.reproduce`: synonyms, rules, candidate sets).
Accuracies of two runs on the same items are not independent: only the items on which they disagree say anything.
McNemar's test asks whether these fall evenly to both sides, exactly (binomial), at any number of items.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from configs.command_line import add_json, command_parser, emit_json, exit_on_user_error
from configs.errors import ConfigError, UserError
from configs.run_dir import EvalDir
from eval.metrics.outcomes import read_right
from eval.metrics.paired import compare_pairs


def main(argv: Sequence[str] | None = None) -> None:
    """Compare folders of answers. Exits with code 2 if they cannot be compared."""
    parser = command_parser(__doc__)
    parser.add_argument(
        "folders", nargs="+", type=Path, metavar="FOLDER", help="one model's answers, or a view of them"
    )
    parser.add_argument(
        "--judged", nargs="+", action="append", default=[], metavar="KEY=VALUE", help="the first's answers, judged so"
    )
    add_json(parser)
    arguments = parser.parse_args(argv)
    try:
        rights = {str(folder): read_right(EvalDir(folder)) for folder in arguments.folders}
        for settings in arguments.judged:
            changes = read_settings(settings)
            rights[", ".join(settings)] = read_right(EvalDir(arguments.folders[0]), changes)
        if len(rights) < 2:
            raise ConfigError(f"there is only {next(iter(rights))}; give another folder, or --judged KEY=VALUE")
        pairs = compare_pairs(rights)
    except UserError as error:
        exit_on_user_error(error)
    if not emit_json(arguments.json, pairs):
        print(as_text(pairs))


def read_settings(settings: Sequence[str]) -> dict[str, Any]:
    """KEY=VALUE of a protocol, values as YAML has them. Raises `ConfigError` for another form."""
    changes: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.removeprefix("protocol.").partition("=")
        if not equals:
            raise ConfigError(f"--judged {setting!r} is not of the form KEY=VALUE")
        changes[key] = yaml.safe_load(value)
    return changes


def as_text(pairs: Sequence[Mapping[str, Any]]) -> str:
    """Three lines a pair, and a fourth if items are left out."""
    return "\n".join(
        f"{pair['first']} and {pair['second']}:\n"
        f"  right {pair['first_right']:,} and {pair['second_right']:,} of the same {pair['items']:,} items: difference "
        f"{100 * pair['difference']:+.1f} points (95 %: {100 * pair['low']:+.1f} to {100 * pair['high']:+.1f})\n"
        f"  only the first is right on {pair['first_only']:,}, only the second on {pair['second_only']:,}: McNemar's "
        f"exact test p = {pair['p_value']:.2g}"
        + (f"\n  left out: {pair['left_out']:,} items that only one of them answered" if pair["left_out"] else "")
        for pair in pairs
    )


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    main()
