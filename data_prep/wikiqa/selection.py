"""The final questions: at most 3 repeats of a question, at most 2,000 in all, the right letters equally often.

All choices depend on the seed and on what is chosen alone: a hash orders them, no stream of random numbers does.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

from data_prep.lettered_options import LETTERS
from data_prep.wikiqa.generated import GeneratedQuestion

_OTHERS = re.compile(
    r"\b(?:all|none|any|both|neither|either|two|some)\b.*\b(?:above|these|those|options|choices|answers)\b"
    r"|\b(?:the|both|all) (?:above|others)\b|^(?:both|neither|none|all)$",
    re.IGNORECASE,
)
_LETTERS = re.compile(r"\b\(?[A-J]\)?(?:, ?\(?[A-J]\)?)* ?,? ?(?:and|or|nor|&) ?\(?[A-J]\b(?![-'’])")
"""Choices that refer to others: by words, and by letters."""


@dataclass(frozen=True, slots=True)
class Item:
    """A question about one image: `class_id` names the class, `number` the question within it."""

    class_id: str
    class_name: str
    number: int
    image: str
    question: GeneratedQuestion

    @property
    def key(self) -> str:
        """What the item is, as text."""
        return f"{self.class_id}/{self.number}/{self.image}"


@dataclass(frozen=True, slots=True)
class Selected:
    """The chosen items in the order of the file, and how many were left out by either limit."""

    items: tuple[Item, ...]
    repeats: int
    surplus: int


def chosen_items(items: Sequence[Item], *, repeats: int, total: int, seed: int) -> Selected:
    """Questions in an order by hash, each with all of its images, until there are `total` items.

    A question's wording occurs `repeats` times at most, over all images and classes. The items are then ordered by
    hash once more.
    """
    by_question: dict[tuple[str, int], list[Item]] = {}
    for item in items:
        by_question.setdefault((item.class_id, item.number), []).append(item)
    order = sorted(by_question, key=lambda key: _rank(seed, f"question {key[0]}/{key[1]}"))
    times: Counter[str] = Counter()
    chosen: list[Item] = []
    repeated = surplus = 0
    for key in order:
        for item in sorted(by_question[key], key=lambda item: _rank(seed, f"image {item.key}")):
            wording = folded(item.question.question)
            if times[wording] >= repeats:
                repeated += 1
            elif len(chosen) >= total:
                surplus += 1
            else:
                times[wording] += 1
                chosen.append(item)
    chosen.sort(key=lambda item: _rank(seed, f"line {item.key}"))
    return Selected(tuple(chosen), repeated, surplus)


def balanced(items: Sequence[Item], seed: int) -> list[Item]:
    """The items with their choices in such an order that every letter is right equally often, in the items' order.

    The right choice changes positions with the one at its new letter. Choices that refer to others ("All of the above",
    "Both A and B") keep their order, and the other items make up for their letters.
    """
    counts: Counter[int] = Counter(item.question.answer for item in items if _is_fixed(item.question))
    moved = {}
    for item in sorted(items, key=lambda item: _rank(seed, f"letter {item.key}")):
        if _is_fixed(item.question):
            continue
        positions = range(len(item.question.choices))
        letter = min(positions, key=lambda place: (counts[place], _rank(seed, f"{item.key} {LETTERS[place]}")))
        counts[letter] += 1
        moved[item.key] = letter
    return [replace(item, question=_at(item.question, moved.get(item.key))) for item in items]


def folded(text: str) -> str:
    """A question for comparing: without case and surplus spaces."""
    return " ".join(text.split()).casefold()


def _is_fixed(question: GeneratedQuestion) -> bool:
    """Whether a choice refers to others by their position or letter."""
    return any(_OTHERS.search(choice) or _LETTERS.search(choice) for choice in question.choices)


def _at(question: GeneratedQuestion, position: int | None) -> GeneratedQuestion:
    """The question with its right choice at `position`; None leaves it as it is."""
    if position is None or position == question.answer:
        return question
    choices = list(question.choices)
    choices[position], choices[question.answer] = choices[question.answer], choices[position]
    return replace(question, choices=tuple(choices), answer=position)


def _rank(seed: int, key: str) -> bytes:
    return sha256(f"{seed}:{key}".encode()).digest()
