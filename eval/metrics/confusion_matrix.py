"""Which class is answered for which, as a matrix small enough to be looked at.

Up to `LISTED` classes are in the order of their names; more are ordered by clustering, so that classes that are taken
for each other are neighbours. Beyond `MOST` classes only those that are confused most are in it.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

LISTED = 30
MOST = 60
OTHER, NO_ANSWER = "(another answer)", "(no answer)"


def confusion_matrix(pairs: Iterable[tuple[str, str]]) -> dict[str, Any] | None:
    """(class, answered class, `OTHER` or `NO_ANSWER`) of every item to the matrix for report.json; None if there is
    nothing to show.

    `rows` and `columns` are names, `counts` a list a row; `totals` are the items of the rows' classes, `classes` is the
    number of classes with items. Answers outside the columns are counted under `OTHER`.

    >>> confusion_matrix([("cat", "cat"), ("cat", "dog"), ("dog", NO_ANSWER)])["counts"]
    [[1, 1, 0], [0, 0, 1]]
    """
    counts = Counter(pairs)
    totals: Counter[str] = Counter()
    for (name, _), count in counts.items():
        totals[name] += count
    if not totals:
        return None
    rows = ordered_classes(counts, totals)
    if not rows:  # more classes than fit, and no two of them are confused
        return None
    named = {name for _, name in counts} - {OTHER, NO_ANSWER} - set(rows)
    columns = [*rows, *(sorted(named) if len(rows) == len(totals) and len(rows) + len(named) <= LISTED else [])]
    found = [[counts[row, column] for column in columns] for row in rows]
    none = [counts[row, NO_ANSWER] for row in rows]
    other = [totals[row] - sum(line) - without for row, line, without in zip(rows, found, none, strict=True)]
    for name, values in ((OTHER, other), (NO_ANSWER, none)):
        if any(values):
            columns.append(name)
            found = [[*line, value] for line, value in zip(found, values, strict=True)]
    return {
        "rows": rows,
        "columns": columns,
        "counts": found,
        "totals": [totals[row] for row in rows],
        "classes": len(totals),
        "clustered": len(totals) > LISTED,
    }


def ordered_classes(counts: Mapping[tuple[str, str], int], totals: Mapping[str, int]) -> list[str]:
    """The classes of the rows, in their order."""
    names = sorted(totals)
    if len(names) <= LISTED:
        return names
    if len(names) > MOST:
        names = sorted(_most_confused(counts, totals))
    if not names:
        return []
    number = {name: position for position, name in enumerate(names)}
    shares = np.zeros((len(names), len(names)))
    for (name, other), count in counts.items():
        if name in number and other in number and name != other:
            shares[number[name], number[other]] = count / totals[name]
    return [names[position] for position in clustered_order(shares + shares.T)]


def clustered_order(similarity: NDArray[np.float64]) -> Sequence[int]:
    """An order of rows in which similar ones are near each other: average linkage, optimal leaf order.

    `similarity` is symmetric, shape [n, n].
    """
    from scipy.cluster.hierarchy import leaves_list, linkage  # slow to import, needed by few reports
    from scipy.spatial.distance import squareform

    distance = similarity.max() - similarity
    np.fill_diagonal(distance, 0.0)
    tree = linkage(squareform(distance, checks=False), "average", optimal_ordering=True)
    order: Sequence[int] = leaves_list(tree).tolist()
    return order


def _most_confused(counts: Mapping[tuple[str, str], int], totals: Mapping[str, int]) -> set[str]:
    """At most `MOST` classes: those of the most frequent pairs, counted in both directions."""
    pairs: Counter[tuple[str, str]] = Counter()
    for (name, other), count in counts.items():
        if name != other and other in totals:
            pairs[(name, other) if name < other else (other, name)] += count
    chosen: set[str] = set()
    for pair, _ in sorted(pairs.items(), key=lambda entry: (-entry[1], entry[0])):
        if len(chosen | set(pair)) <= MOST:
            chosen |= set(pair)
    return chosen
