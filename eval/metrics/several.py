"""How many answers name several classes: a rule that credits by mention gives such an answer more than one try."""

from collections.abc import Iterable, Sequence

from data_prep.final_answer import final_answer
from eval.scorers.class_name import Mention, mentions, words_of


def names_several(answer: str, classes: tuple[str, ...]) -> bool:
    """Whether the answer names more than one of `classes`; a name inside a longer one counts as the longer one.

    >>> names_several("a tench or a goldfish", ("tench", "goldfish"))
    True
    >>> names_several("a guinea pig", ("pig", "guinea pig"))
    False
    """
    found = [mention for mention in mentions(words_of(final_answer(answer) or ""), classes) if not mention.denied]
    outer = {tuple(words_of(m.name)) for m in found if not any(_within(m, other) for other in found)}
    return len(outer) > 1


def count_several(answers: Iterable[str], classes: Sequence[str]) -> int:
    """The number of answers that name several classes. Linear time in the words, for any number of classes."""
    names = tuple(dict.fromkeys(classes))
    return sum(names_several(answer, names) for answer in answers)


def _within(inner: Mention, outer: Mention) -> bool:
    return outer.start <= inner.start and inner.end <= outer.end and outer.end - outer.start > inner.end - inner.start
