"""Which lettered option an answer chooses: it is searched for a letter, then for an option's text.

    choose_option("so it must be (B)", ("Africa", "Asia"))     ->  ("B", "the letter is in brackets")

No letter is guessed where none is found.
"""

import re
from collections.abc import Sequence

from data_prep.choice_letters import (
    bare_letters,
    bracketed_letters,
    capitalised_declarations,
    declarations,
    openings,
    plain,
    readable,
    rejections,
    without_lists,
)
from data_prep.final_answer import final_answer
from data_prep.lettered_options import LETTERS


def choose_option(answer: str, options: Sequence[str]) -> tuple[str | None, str]:
    r"""The letter that the answer chooses among `options` (A first) or None, and the reason.

    Reasoning, special tokens and markdown are removed first (`data_prep.final_answer`). A letter that the answer
    rejects ("A is wrong", "not A") is not a choice. The first of these rules that finds exactly one letter decides:

    1. the answer is only a letter:                B   b.   (B)   **B**
    2. it declares one; the last counts:           the answer is b   Answer: (C)   I choose D   \boxed{A}   答案是 B
    3. it or one of its sentences begins with it:  B. South America   b) text   (B) text   Option B is right
    4. a letter in brackets anywhere:              so it must be (B)
    5. an option's full text, in whole words:      It comes from South America.
    6. a letter alone, not an article:             I would say B
    7. a declared A before a capitalised word:     the answer is A South American one

    Elsewhere a capital A before a word is an article ("A guinea pig"). A declaration of several letters ("the answer
    is B or C") is not a choice.
    """
    final = final_answer(answer)
    if final is None:
        return None, "the answer ends inside its reasoning; raise max_new_tokens"
    text = readable(final)
    if not text:
        return None, "the answer is empty"
    letters = LETTERS[: len(options)]
    alone = re.fullmatch(rf"[\W_]*([{letters}{letters.lower()}])[\W_]*", text)
    if alone:
        return alone[1].upper(), "the answer is the letter alone"
    text = without_lists(text, letters)
    exact = [letter for letter, option in zip(LETTERS, options, strict=False) if plain(option) == plain(text)]
    if len(exact) == 1:
        return exact[0], "the answer is the option's text alone"
    spoken = declarations(text, letters)
    if spoken and len(spoken[-1]) == 1:
        return spoken[-1], "the answer declares the letter"
    if spoken:
        return None, f"it declares several: {', '.join(spoken[-1])}"
    rejected = rejections(text, letters)
    rules = (
        ("the letter opens the answer or a sentence", openings(text, letters) - rejected),
        ("the letter is in brackets", bracketed_letters(text, letters) - rejected),
        ("the option's text is in the answer", _named_options(text, options) - rejected),
        ("the letter appears alone in the text", bare_letters(text, letters) - rejected),
        ("the answer declares the letter", capitalised_declarations(text)),
    )
    for reason, found in rules:
        if len(found) == 1:
            return found.pop(), reason
    several = sorted(set().union(*(found for _, found in rules)))
    return None, f"it names several: {', '.join(several)}" if several else "no letter and no option's text is in it"


def _named_options(text: str, options: Sequence[str]) -> set[str]:
    """Letters of the options whose whole text is in the answer, not rejected, and not inside a longer option."""
    said = plain(text)
    refused = re.compile(r"\b(?:not|isn't|rather than|instead of) (?:(?:in|from|to|on|the|a|an|of) )*$")
    spans: list[tuple[int, int, str]] = []
    for letter, option in zip(LETTERS, options, strict=False):
        wanted = plain(option)
        if wanted:
            pattern = rf"(?<!\w){re.escape(wanted)}(?!\w)"
            spans += [(found.start(), found.end(), letter) for found in re.finditer(pattern, said)]
            spans = [span for span in spans if not refused.search(said[: span[0]])]
    return {
        letter
        for start, end, letter in spans
        if not any(a <= start and end <= b and b - a > end - start for a, b, _ in spans)
    }
