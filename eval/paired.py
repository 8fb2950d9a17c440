"""Two runs on the same items: do they differ by more than chance?

    python -m eval.paired runs/a/eval/open_world/export runs/b/eval/open_world/export

Accuracies of two runs on the same items are not independent: only the items on which they disagree say anything.
McNemar's test asks whether these fall evenly to both sides, exactly (binomial), at any number of items.
"""

import json
import math
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.command_line import command_parser, exit_on_user_error
from configs.errors import RunError, UserError
from configs.run_dir import EvalDir
from configs.schema import ProtocolConfig
from eval.identity import read_evaluation
from eval.protocols import make_protocol
from eval.records import chosen_records, read_records
from eval.reporting.stats import Z_95


@dataclass(frozen=True, slots=True)
class Paired:
    """`first_only` items that only the first run has right, `second_only` the reverse, out of `items` both answered."""

    items: int
    first_right: int
    second_right: int
    first_only: int
    second_only: int

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
        """95 % interval of the difference, from the disagreements (Wald)."""
        total = self.first_only + self.second_only
        spread = Z_95 * math.sqrt(max(0.0, total - (self.second_only - self.first_only) ** 2 / self.items)) / self.items
        return self.difference - spread, self.difference + spread

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
    total, fewer = first_only + second_only, min(first_only, second_only)
    if first_only == second_only:
        return 1.0
    logs = [math.lgamma(total + 1) - math.lgamma(k + 1) - math.lgamma(total - k + 1) for k in range(fewer + 1)]
    return min(1.0, 2 * math.fsum(math.exp(value - total * math.log(2)) for value in logs))


def compare_right(first: Mapping[str, bool], second: Mapping[str, bool]) -> Paired:
    """Compare by item id; items of one run alone are left out. Raises `RunError` if none is in both."""
    both = sorted(first.keys() & second.keys())
    if not both:
        raise RunError("the two runs have no item in common; compare evaluations of one source")
    pairs = Counter((first[item], second[item]) for item in both)
    agree = pairs[True, True]
    return Paired(
        len(both), agree + pairs[True, False], agree + pairs[False, True], pairs[True, False], pairs[False, True]
    )


def read_right(folder: EvalDir) -> dict[str, bool]:
    """Item id to whether its answer is right, by the protocol the folder was judged with. No answer is not right.

    Raises `RunError` if nothing was asked there.
    """
    evaluation = read_evaluation(folder)
    if evaluation is None:
        raise RunError(f"{folder.root} has no evaluation.json; give the folder of one model's answers")
    protocol = make_protocol(ProtocolConfig(**evaluation.config["protocol"]), evaluation.answer_mark)
    predictions = list(chosen_records(read_records(folder), evaluation.limit).predictions.values())
    protocol.prepare(folder, predictions)
    return {prediction.id: protocol.score(prediction).value is True for prediction in predictions}


def main(argv: Sequence[str] | None = None) -> None:
    """Compare two folders of answers. Exits with code 2 if they cannot be compared."""
    parser = command_parser(__doc__)
    parser.add_argument("first", type=Path, metavar="FOLDER", help="one model's answers (with evaluation.json)")
    parser.add_argument("second", type=Path, metavar="FOLDER", help="the other's")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args(argv)
    try:
        paired = compare_right(read_right(EvalDir(arguments.first)), read_right(EvalDir(arguments.second)))
    except UserError as error:
        exit_on_user_error(error)
    print(json.dumps(paired.to_json()) if arguments.json else as_text(paired))


def as_text(paired: Paired) -> str:
    """The comparison in two lines."""
    low, high = paired.interval
    return (
        f"right {paired.first_right:,} and {paired.second_right:,} of the same {paired.items:,} items: difference "
        f"{100 * paired.difference:+.1f} points (95 %: {100 * low:+.1f} to {100 * high:+.1f})\n"
        f"only the first is right on {paired.first_only:,}, only the second on {paired.second_only:,}: McNemar's exact "
        f"test p = {paired.p_value:.2g}"
    )


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    main()
