"""Scorers for multiple choice, by the option that an answer chooses (`data_prep.chosen_option`).

An answer in which no choice is found counts as not parsed, separately from wrong answers; no letter is guessed. (The
authors' code draws a random letter instead, and reads the article in "It is A dog" as a choice.)
"""

from data_prep.chosen_option import choose_option
from data_prep.lettered_options import LETTERS
from eval.types import Reference, Score


def score_choice(answer: str, reference: Reference) -> Score:
    """Right if the answer chooses the letter `reference.target`; `value` is None if it chooses no letter."""
    letter, reason = choose_option(answer, reference.choices)
    return Score(None if letter is None else letter == reference.target, letter, reason)


def score_mmmu(answer: str, reference: Reference) -> Score:
    """The authors' parser (MMMU's evaluation): `(B)`, else ` B `, else an option's text; the last match counts.

    Its errors are kept: the article in "a photo of A dog" is read as choice A, and "B." inside a sentence is not found.
    Where MMMU's code draws a random letter, `value` is None.
    """
    for mark in ",.!?;:'":  # one after the other, as in MMMU's code: "B.'" keeps its full stop
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


def score_first_character(answer: str, reference: Reference) -> Score:
    """The answer's first character is the choice, as the authors read GPT-4's when they filtered their questions."""
    letter = answer[:1]
    if not letter or letter not in LETTERS[: len(reference.choices)]:
        return Score(None, None, "the answer's first character is no letter of an option")
    return Score(letter == reference.target, letter, "the answer's first character")
