"""What is taken for what: the most frequent pairs of a class and the wrong one that was named for it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any


def confusions(pairs: Sequence[tuple[str, str]], items: Mapping[str, int], most: int = 20) -> list[dict[str, Any]]:
    """(class, what it was taken for) of wrong answers to the most frequent pairs, with how often the reverse came.

    `items` says how many there are of each class.

    >>> confusions([("fox", "dog"), ("fox", "dog"), ("dog", "fox")], {"fox": 5, "dog": 6})[0]
    {'class': 'fox', 'taken_for': 'dog', 'times': 2, 'n': 5, 'reverse': 1, 'reverse_n': 6}
    """
    counts = Counter(pair for pair in pairs if pair[0] != pair[1])
    ordered = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))[:most]
    return [
        {
            "class": name,
            "taken_for": other,
            "times": times,
            "n": items.get(name, 0),
            "reverse": counts[other, name],
            "reverse_n": items.get(other, 0),
        }
        for (name, other), times in ordered
    ]
