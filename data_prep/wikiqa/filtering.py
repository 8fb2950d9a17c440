"""The filter of Figure 9: a question is kept if a model answers it with the class name, and not without."""

from dataclasses import dataclass

from data_prep.choice_prompts import filter_text, with_class
from data_prep.chosen_option import choose_option
from data_prep.final_answer import final_answer
from data_prep.lettered_options import LETTERS
from data_prep.wikiqa.generated import GeneratedQuestion

KEPT = "kept"
GUESSED = "right without the class"
UNKNOWN = "wrong with the class"
UNREADABLE = "no letter with the class"
NO_GUESS = "no answer without the class"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a question, and the letters that were read with the class and without it; None for no letter."""

    reason: str
    named: str | None
    unnamed: str | None


def filter_prompts(question: GeneratedQuestion, class_name: str) -> tuple[str, str]:
    """Both prompts of Figure 9: with the class in the question, and without it."""
    named = filter_text(with_class(question.question, class_name), question.choices, named=True)
    return named, filter_text(question.question, question.choices, named=False)


def outcome_of(question: GeneratedQuestion, named_answer: str, unnamed_answer: str) -> Outcome:
    """Whether a question is kept. Without the class, an answer that chooses no letter, such as a refusal, is not right.

    An empty answer, or one that ends in its reasoning, says nothing: such a question is not kept.

    >>> outcome_of(GeneratedQuestion("Where?", ("Africa", "Asia"), 1, ""), "B", "I cannot know.")
    Outcome(reason='kept', named='B', unnamed=None)
    """
    target = LETTERS[question.answer]
    named, _ = choose_option(named_answer, question.choices)
    unnamed, _ = choose_option(unnamed_answer, question.choices)
    if named is None:
        return Outcome(UNREADABLE, named, unnamed)
    if named != target:
        return Outcome(UNKNOWN, named, unnamed)
    if unnamed is None and not final_answer(unnamed_answer):
        return Outcome(NO_GUESS, named, unnamed)
    return Outcome(GUESSED if unnamed == target else KEPT, named, unnamed)
