"""Scorers of multiple choice: a letter is looked for in the answer, then an option's text.

    choose_option("so it must be (B)", ("Africa", "Asia"))     ->  ("B", "the letter stands in brackets")

What cannot be parsed is no answer: it is counted apart from wrong answers and never guessed. (The authors' code draws
a random letter instead, and takes the article in "It is A dog" for a choice.)
"""

import re
from collections.abc import Sequence

from eval.types import Reference, Score

LETTERS = "ABCDEFGHIJ"


def score_choice(answer: str, reference: Reference) -> Score:
    """Right if the answer chooses the letter `reference.target`; no answer if it chooses no letter."""
    letter, reason = choose_option(answer, reference.choices)
    return Score(None if letter is None else letter == reference.target, letter, reason)


def choose_option(answer: str, options: Sequence[str]) -> tuple[str | None, str]:
    """The letter that the answer chooses among `options` (A first) or None, and the reason.

    The first of these rules that finds exactly one letter decides:

    1. the answer is nothing but a letter:         B   b.   (B)   **B**
    2. it declares one; the last counts:           the answer is B   Answer: (C)   the correct option is D
    3. it, or one of its sentences, opens with it: B. South America   B: text   (B) text   B) text
    4. a letter in brackets anywhere:              so it must be (B)
    5. an option's full text, in whole words:      It comes from South America.
    6. a letter alone, not an article:             I would say B

    A capital A before a word is an article ("A guinea pig"), and so no choice.
    """
    text = answer.strip()
    if not text:
        return None, "the answer is empty"
    letters = LETTERS[: len(options)]
    alone = re.fullmatch(rf"[\W_]*([{letters}{letters.lower()}])[\W_]*", text)
    if alone:
        return alone[1].upper(), "the answer is the letter alone"
    declared = _declared(text, letters)
    if declared:
        return declared[-1], "the answer declares the letter"
    rules = (
        ("the letter opens the answer or a sentence", _openings(text, letters)),
        ("the letter stands in brackets", set(re.findall(rf"[(\[]([{letters}])[)\]]", text))),
        ("the option's text stands in the answer", _named_options(text, options)),
        ("the letter stands alone in the text", _bare_letters(text, letters)),
    )
    for reason, found in rules:
        if len(found) == 1:
            return found.pop(), reason
    several = sorted(set().union(*(found for _, found in rules)))
    return None, f"it names several: {', '.join(several)}" if several else "no letter and no option's text is in it"


def score_mmmu(answer: str, reference: Reference) -> Score:
    """As the authors parse a choice (MMMU's evaluation): `(B)`, else ` B `, else an option's text; the last one counts.

    Its flaws are kept: the article in "a photo of A dog" is choice A, and "B." inside a sentence is not seen. No answer
    where it would draw a random letter.
    """
    for mark in ",.!?;:'":  # one after the other, as there: of "B.'" the full stop remains
        answer = answer.strip(mark)
    text = f" {answer} "
    letters = LETTERS[: len(reference.choices)]
    positions = {letter: text.rfind(f"({letter})") for letter in letters if f"({letter})" in text}
    if not positions:
        positions = {letter: text.rfind(f" {letter} ") for letter in letters if f" {letter} " in text}
    if not positions and len(text.split()) > 5:
        lowered = text.lower()
        texts = zip(letters, reference.choices, strict=True)
        positions = {letter: lowered.rfind(option.lower()) for letter, option in texts if option.lower() in lowered}
    if not positions:
        return Score(None, None, "MMMU's parser finds no letter and no option")
    chosen = max(positions, key=lambda letter: positions[letter])
    reason = f"MMMU's parser takes the last of {', '.join(sorted(positions))}"
    return Score(chosen == reference.target, chosen, reason)


def _letter(letters: str) -> str:
    """A pattern for one of `letters`; an A before a word counts only if no article can stand before that word."""
    article = r"A\s+(?!(?:is|was|because|since|as|and|or)\b)\w"
    return rf"(?!{article})([{letters}])(?![\w'’&-])"


def _declared(text: str, letters: str) -> list[str]:
    """Letters after "answer is", "Answer:", "correct option is" and the like, in order."""
    verb = r"(?:\s+(?:is|would be|should be|must be|will be))?\s*:?\s*"
    opening = rf"(?i:\b(?:answer|(?:correct|right|best)\s+(?:option|choice|one|letter)){verb}(?:option|choice|letter)?)"
    return re.findall(rf"{opening}[\s\"'“‘(\[*]*{_letter(letters)}", text)


def _openings(text: str, letters: str) -> set[str]:
    """Letters that open the answer, a line or a sentence with a mark after them, or the answer before other words."""
    marked = set(re.findall(rf"(?:^|\n|[.!?:]\s)\s*[(\[*\"'“]*([{letters}])[*]*\s*[.):\]]", text))
    said = rf"[*]*([{letters}])[*]*(?:\s*\n|\s+(?:is|was|because|since)\b)"
    before_text = rf"([{letters.replace('A', '')}])\s+(?!(?:and|or)\b)\w"
    return marked | {found[1] for form in (said, before_text) if (found := re.match(form, text))}


def _named_options(text: str, options: Sequence[str]) -> set[str]:
    """Letters of the options whose whole text is in the answer, except those inside a longer matching option."""
    spans: list[tuple[int, int, str]] = []
    for letter, option in zip(LETTERS, options, strict=False):
        wanted = option.strip().rstrip(".").lower()
        if wanted:
            pattern = rf"(?<!\w){re.escape(wanted)}(?!\w)"
            spans += [(found.start(), found.end(), letter) for found in re.finditer(pattern, text.lower())]
    return {
        letter
        for start, end, letter in spans
        if not any(a <= start and end <= b and b - a > end - start for a, b, _ in spans)
    }


def _bare_letters(text: str, letters: str) -> set[str]:
    """Letters that are words of their own."""
    return set(re.findall(rf"(?<![\w'’&.-]){_letter(letters)}", text))
