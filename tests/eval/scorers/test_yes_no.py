"""Yes-or-no answers read by POPE's rule and by the careful one, case by case."""

import pytest

from eval.scorers.yes_no import score_pope, score_yes_no
from eval.types import Reference

CASES = [  # answer, what POPE's rule reads, what the careful rule reads
    ("Yes", "yes", "yes"),
    ("no", "no", "no"),
    ("No, there is no dog.", "no", "no"),
    ("NO", "yes", "no"),  # POPE knows No and no
    ("No!", "yes", "no"),  # and parts words at blanks alone
    ("Yes, there is a dog. No cat.", "yes", "yes"),  # only the first sentence counts
    ("Yes, a dog, not a cat", "no", "yes"),
    ("There is not a dog", "no", None),
    ("There is no dog in the image", "no", "no"),
    ("The image shows a dog", "yes", None),  # by POPE, what is not denied is affirmed
    ("no\nyes", "yes", "no"),  # POPE sees one word, "no\nyes"
    ("It could be yes or no", "no", None),
    ("Yes and no", "no", None),
    ("yes/no", "yes", None),
    ("Yes, and no cat", "no", "yes"),
    ("No / there is none", "no", "no"),
    ("'Yes'", "yes", "yes"),
    ("No one is here, yes", "no", None),
    ("nothing", "yes", None),
    ("Answer: yes", "yes", "yes"),
    ("  ", None, None),
]


@pytest.mark.parametrize(("answer", "pope", "careful"), CASES)
def test_what_an_answer_says(answer, pope, careful):
    for scorer, said in ((score_pope, pope), (score_yes_no, careful)):
        for target in ("yes", "no"):
            score = scorer(answer, Reference(target))
            assert (score.value, score.extracted) == (None if said is None else said == target, said)
