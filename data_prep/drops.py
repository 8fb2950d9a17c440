"""Dropped records: the count of each kind, with examples, and the limit."""

from collections import Counter
from collections.abc import Iterable
from math import ceil

from configs.errors import DataError
from data_prep.sample import Drop

SHOWN_FILES = 3  # examples per reason


def check_drop_fraction(
    source: str, drops: Iterable[Drop], records: int, limit: float, *, kept: str = "finished shards are kept"
) -> None:
    """Raise `DataError` that lists the most frequent reasons if more than `limit` of the records were dropped.

    A source without any record is an error, too: the usual cause is a path one folder too high or too deep. `kept` is
    the end of the message.
    """
    dropped = list(drops)
    if not records:
        raise DataError(f"source {source} has no records; is data.sources.{source}.path the right folder or file?")
    if len(dropped) > limit * records:
        raise DataError(
            f"source {source}: {len(dropped):,} of {records:,} records dropped ({len(dropped) / records:.2%}), more"
            f" than data.max_drop_fraction = {limit}: {'; '.join(describe_drops(dropped))}. Fix the source, or leave"
            f" them out: --set data.max_drop_fraction={ceil(1000 * len(dropped) / records) / 1000}; {kept}"
        )


def describe_drops(drops: Iterable[Drop]) -> list[str]:
    """One line per kind of reason, the most frequent first: `12 x does not decode (a.jpg, b.jpg, c.jpg, ...)`."""
    dropped = list(drops)
    kinds = Counter(drop.reason.partition(":")[0] for drop in dropped)
    lines = []
    for kind, count in kinds.most_common():
        examples = [drop.file or drop.name for drop in dropped if drop.reason.partition(":")[0] == kind]
        more = ", ..." if count > SHOWN_FILES else ""
        lines.append(f"{count:,} x {kind} ({', '.join(examples[:SHOWN_FILES])}{more})")
    return lines


def drop_notes(source: str, drops: Iterable[Drop], records: int) -> list[str]:
    """For a report: how many records of a source its shards lack, and why; empty if there is none.

    >>> drop_notes("test", [Drop("a", "does not decode: truncated", "a.jpg")], 20)
    ['1 of 20 records of test left out: 1 x does not decode (a.jpg)']
    """
    dropped = list(drops)
    if not dropped:
        return []
    return [f"{len(dropped):,} of {records:,} records of {source} left out: {'; '.join(describe_drops(dropped))}"]


def printable(text: str) -> str:
    r"""`text` with escapes for what is not Unicode, such as bytes of a file name that is not UTF-8: `caf\udce9`."""
    return text.encode(errors="backslashreplace").decode()
