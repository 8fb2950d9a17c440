"""Confusions: the most frequent pairs of a class and the wrong class that was predicted for it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any


def confusions(pairs: Sequence[tuple[str, str]], items: Mapping[str, int], most: int = 20) -> list[dict[str, Any]]:
    """The `most` frequent (class, predicted class) pairs of wrong answers, with the count of the reverse pair.

    `items` maps a class to its number of items.

    >>> confusions([("fox", "dog"), ("fox", "dog"), ("dog", "fox")], {"fox": 5, "dog": 6})[0]
    {'class': 'fox', 'predicted_as': 'dog', 'count': 2, 'n': 5, 'reverse_count': 1, 'reverse_n': 6}
    """
    counts = Counter(pair for pair in pairs if pair[0] != pair[1])
    ordered = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))[:most]
    return [
        {
            "class": name,
            "predicted_as": other,
            "count": count,
            "n": items.get(name, 0),
            "reverse_count": counts[other, name],
            "reverse_n": items.get(other, 0),
        }
        for (name, other), count in ordered
    ]
