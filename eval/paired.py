"""Two runs on the same items: do they differ by more than chance?

    python -m eval.paired runs/a/eval/open_world/export runs/b/eval/open_world/export        # every pair of folders
    python -m eval.paired runs/a/eval/open_world/export --judged match=word synonyms=auto    # one run, judged twice

Folders are those of answers, or of views that judge answers anew (`eval.reproduce`: synonyms, rules, candidate sets).
Accuracies of two runs on the same items are not independent: only the items on which they disagree say anything.
McNemar's test asks whether these fall evenly to both sides, exactly (binomial), at any number of items.
"""

import json
import math
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import yaml

from configs.command_line import command_parser, exit_on_user_error
from configs.errors import ConfigError, RunError, UserError
from configs.run_dir import EvalDir
from eval.metrics.accuracy import Z_95
from eval.reports.evaluation import scored_answers
from eval.runner.fingerprint import judging_fields, protocol_of, read_evaluation
from eval.runner.predictions import chosen_records, read_records


@dataclass(frozen=True, slots=True)
class Paired:
    """`first_only` items that only the first run has right, `second_only` the reverse, out of `items` both answered."""

    items: int
    first_right: int
    second_right: int
    first_only: int
    second_only: int
    left_out: int = 0

    @property
    def p_value(self) -> float:
        """How probable so uneven a split of the disagreements is, if both runs were equally good."""
        return mcnemar(self.first_only, self.second_only)

    @property
    def difference(self) -> float:
        """Accuracy of the second less that of the first."""
        return (self.second_only - self.first_only) / self.items

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the difference, with half an item more in each of the four cells.

        Agresti and Min 2005, Statistics in Medicine 24: without them, two runs that never disagree would have an
        interval of no width, and few items one that is too narrow.
        """
        items, gained = self.items + 2, self.second_only - self.first_only
        spread = Z_95 * math.sqrt(self.first_only + self.second_only + 1 - gained**2 / items) / items
        return max(-1.0, gained / items - spread), min(1.0, gained / items + spread)

    def to_json(self) -> dict[str, Any]:
        """All numbers by name."""
        low, high = self.interval
        counts = {name: getattr(self, name) for name in self.__slots__}
        return {**counts, "difference": self.difference, "low": low, "high": high, "p_value": self.p_value}


def mcnemar(first_only: int, second_only: int) -> float:
    """Exact two-sided p-value: twice the smaller binomial tail at one half, at most 1.

    >>> round(mcnemar(2, 8), 4)
    0.1094
    """
    from scipy.stats import binomtest  # slow to import, needed by comparisons only

    total = first_only + second_only
    return float(binomtest(first_only, total).pvalue) if total else 1.0


def compare_right(first: Mapping[str, bool], second: Mapping[str, bool]) -> Paired:
    """Compare by item id; items of one run alone are left out, and counted. Raises `RunError` if none is in both."""
    both = sorted(first.keys() & second.keys())
    if not both:
        raise RunError("the two runs have no item in common; compare evaluations of one source")
    pairs = Counter((first[item], second[item]) for item in both)
    agree = pairs[True, True]
    right = agree + pairs[True, False], agree + pairs[False, True]
    return Paired(len(both), *right, pairs[True, False], pairs[False, True], len(first.keys() ^ second.keys()))


def read_right(folder: EvalDir, changes: Mapping[str, Any] | None = None) -> dict[str, bool]:
    """Item id to whether its answer is right, as the folder's report judges, but for `changes` of the protocol.

    A folder of a view takes the answers that it judges from where they lie. No answer is not right. Raises `RunError`
    if nothing was asked there, `ConfigError` for a change that needs other answers.
    """
    answers, settings = judged_answers(folder)
    evaluation = read_evaluation(answers)
    if evaluation is None:
        raise RunError(f"{answers.root} has no evaluation.json; give the folder of one model's answers, or of a view")
    settings = settings or {**evaluation.asked, **evaluation.judged}
    known = judging_fields(str(settings["task"]))
    if other := [key for key in changes or () if key not in known]:
        raise ConfigError(f"protocol.{other[0]} needs other answers; stored ones can be judged by {', '.join(known)}")
    records = chosen_records(read_records(answers), evaluation.limit)
    protocol = protocol_of({**settings, **(changes or {})})
    scored = scored_answers(answers, list(records.predictions.values()), protocol, evaluation.answer_delimiter)
    return {prediction.id: score.value is True for prediction, score in scored}


def judged_answers(folder: EvalDir) -> tuple[EvalDir, Mapping[str, Any]]:
    """(folder of the answers, the settings by which a view judges them, none where answers and report lie together)."""
    if folder.config.is_file() or not folder.report("json").is_file():
        return folder, {}
    report = json.loads(folder.report("json").read_text(encoding="utf-8"))
    if "answers_of" not in report:
        return folder, {}
    return EvalDir(folder.root / report["answers_of"]), report["protocol"]


def compared(rights: Mapping[str, Mapping[str, bool]]) -> list[dict[str, Any]]:
    """Every pair of `rights` (name to item id to whether it is right), in order. Raises as `compare_right`."""
    return [
        {"first": first, "second": second, **compare_right(rights[first], rights[second]).to_json()}
        for first, second in combinations(rights, 2)
    ]


def main(argv: Sequence[str] | None = None) -> None:
    """Compare folders of answers. Exits with code 2 if they cannot be compared."""
    parser = command_parser(__doc__)
    parser.add_argument(
        "folders", nargs="+", type=Path, metavar="FOLDER", help="one model's answers, or a view of them"
    )
    parser.add_argument(
        "--judged", nargs="+", action="append", default=[], metavar="KEY=VALUE", help="the first's answers, judged so"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args(argv)
    try:
        rights = {str(folder): read_right(EvalDir(folder)) for folder in arguments.folders}
        for settings in arguments.judged:
            changes = read_settings(settings)
            rights[", ".join(settings)] = read_right(EvalDir(arguments.folders[0]), changes)
        if len(rights) < 2:
            raise ConfigError(f"there is only {next(iter(rights))}; give another folder, or --judged KEY=VALUE")
        pairs = compared(rights)
    except UserError as error:
        exit_on_user_error(error)
    print(json.dumps(pairs) if arguments.json else as_text(pairs))


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
