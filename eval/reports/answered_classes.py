"""Which class each answer names: what confusions and the confusion matrix are counted from."""

import re
from collections.abc import Sequence

from data_prep.class_names import load_class_list
from eval.metrics.confusion_matrix import NO_ANSWER, OTHER
from eval.types import Prediction, Score

Scored = Sequence[tuple[Prediction, Score]]


def answered_classes(scored: Scored, listed: str | None) -> list[tuple[str, str]]:
    """(class, answered class) of every item that has a class: its own where correct; `OTHER` or `NO_ANSWER` for none.

    Of several classes that a wrong answer names, the longest name counts. Classes are those of the items and of
    `listed`, the protocol's list, of which the items may have a part. Nothing for items with options.
    """
    if any(prediction.choices for prediction, _ in scored):
        return []
    known = {p.label_name for p, _ in scored if p.label_name}
    known |= set(load_class_list(listed).names) if listed and known else set()
    names = sorted(known, key=lambda name: (-len(name), name))
    if not names:
        return []
    pattern = re.compile(rf"(?<!\w)(?:{'|'.join(re.escape(name.lower()) for name in names)})(?!\w)")
    by_lower = {name.lower(): name for name in names}
    pairs = []
    for prediction, score in scored:
        if not (name := prediction.label_name):
            continue
        if score.value is not False:
            pairs.append((name, name if score.value else NO_ANSWER))
            continue
        found = [by_lower[text] for text in pattern.findall((score.extracted or prediction.answer).lower())]
        other = max(found, key=len, default=OTHER)
        pairs.append((name, OTHER if other == name else other))
    return pairs


def answered_letters(scored: Scored) -> list[tuple[str, str]]:
    """(expected letter, answered letter) of every item; nothing unless all items have options."""
    if not scored or not all(prediction.choices for prediction, _ in scored):
        return []
    return [
        (p.target, p.target if score.value else NO_ANSWER if score.value is None else score.extracted or OTHER)
        for p, score in scored
    ]


def answered_words(task: str, scored: Scored) -> list[tuple[str, str]]:
    """(expected answer, yes or no as the answer says) of every yes-or-no question; nothing for other tasks."""
    if task != "yes_no":
        return []
    return [(prediction.target, score.extracted or NO_ANSWER) for prediction, score in scored]


def taken_for(pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """The pairs of a class and another class."""
    return [pair for pair in pairs if pair[0] != pair[1] and pair[1] not in (OTHER, NO_ANSWER)]
