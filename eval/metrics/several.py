"""How many answers name several classes: a rule that credits by mention gives such an answer more than one try."""

from collections.abc import Iterable, Sequence

from data_prep.final_answer import final_answer
from eval.scorers.class_name import stated_mentions, words_of


def names_several(answer: str, classes: tuple[str, ...]) -> bool:
    """Whether the answer names more than one of `classes`; a name inside a longer one counts as the longer one.

    >>> names_several("a tench or a goldfish", ("tench", "goldfish"))
    True
    >>> names_several("a guinea pig", ("pig", "guinea pig"))
    False
    """
    found = stated_mentions(words_of(final_answer(answer) or ""), classes)
    return len({tuple(words_of(mention.name)) for mention in found}) > 1


def count_several(answers: Iterable[str], classes: Sequence[str]) -> int:
    """The number of answers that name several classes. Linear time in the words, for any number of classes."""
    names = tuple(dict.fromkeys(classes))
    return sum(names_several(answer, names) for answer in answers)
