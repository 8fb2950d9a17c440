"""What an answer is worth. Pure functions from texts to a `Score` that says what was understood, and why.

Open questions: the label is looked for in the answer (`match_label`).

    match_label("It is a Pink Primrose.", ("rose",), "contains").value   ->  True   (the paper's rule)
    match_label("It is a Pink Primrose.", ("rose",), "word").value       ->  False
    match_label("pink primrose ", ("Pink Primrose",), "exact").value     ->  True

Multiple choice: a letter is looked for, then an option's text (`choose_option`). What cannot be understood is no
answer: it is counted apart from wrong answers and never guessed. (The authors' code draws a random letter instead,
and takes the article in "It is A dog" for a choice.)
"""

import re
from collections.abc import Sequence

from configs.errors import ConfigError
from eval.types import Score

MATCH_RULES = ("contains", "word", "exact")
LETTERS = "ABCDEFGHIJ"


def match_label(answer: str, names: Sequence[str], rule: str) -> Score:
    """Right if one of `names` (the label first, then its synonyms) is in the answer. Case never matters.

    `contains`: anywhere, also inside a word, as in the paper (Section 2.3); `word`: not inside a longer word; `exact`:
    the whole answer but for white space around it, as in the authors' evaluation of fine-tuned models. An empty answer
    is no answer. Raises `ConfigError` for an unknown rule.
    """
    if rule not in MATCH_RULES:
        raise ConfigError(f"match is {rule!r}; choose one of: {', '.join(MATCH_RULES)}")
    text = answer.strip().lower()
    if not text:
        return Score(None, None, "the answer is empty")
    for name in names:
        start = _find(text, name.strip().lower(), rule)
        if start is not None:
            return Score(True, name, f"{name!r} found at character {start} (rule {rule})")
    return Score(False, None, f"none of {', '.join(map(repr, names))} found (rule {rule})")


def _find(text: str, name: str, rule: str) -> int | None:
    if rule == "exact":
        return 0 if text == name else None
    if rule == "contains":
        start = text.find(name)
        return start if start >= 0 else None
    found = re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text)
    return found.start() if found else None


def score_choice(answer: str, target: str, options: Sequence[str]) -> Score:
    """Right if the answer chooses the letter `target`; no answer if it chooses nothing that can be told."""
    letter, reason = choose_option(answer, options)
    return Score(None if letter is None else letter == target, letter, reason)


def choose_option(answer: str, options: Sequence[str]) -> tuple[str | None, str]:
    """The letter that the answer chooses among `options` (A first) or None, and the reason.

    The first of these rules that finds exactly one letter decides:

    1. the answer is nothing but a letter:         B   b.   (B)   **B**
    2. it says so; the last time counts:           the answer is B   Answer: (C)   the correct option is D
    3. it, or a sentence of it, opens with one:    B. South America   B: text   (B) text   B) text
    4. a letter stands in brackets anywhere:       so it must be (B)
    5. an option's full text, in whole words:      It comes from South America.
    6. a letter stands alone, and is no article:   I would say B

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


def score_mmmu(answer: str, target: str, options: Sequence[str]) -> Score:
    """As the authors parse a choice (MMMU's evaluation): `(B)`, else ` B `, else an option's text; the last one counts.

    Its flaws are kept: the article in "a photo of A dog" is choice A, and "B." inside a sentence is not seen. No answer
    where it would draw a letter.
    """
    for mark in ",.!?;:'":  # one after the other, as there: of "B.'" the full stop stays
        answer = answer.strip(mark)
    text = f" {answer} "
    letters = LETTERS[: len(options)]
    places = {letter: text.rfind(f"({letter})") for letter in letters if f"({letter})" in text}
    if not places:
        places = {letter: text.rfind(f" {letter} ") for letter in letters if f" {letter} " in text}
    if not places and len(text.split()) > 5:
        lowered = text.lower()
        texts = zip(letters, options, strict=True)
        places = {letter: lowered.rfind(option.lower()) for letter, option in texts if option.lower() in lowered}
    if not places:
        return Score(None, None, "MMMU's parser finds no letter and no option")
    chosen = max(places, key=lambda letter: places[letter])
    return Score(chosen == target, chosen, f"MMMU's parser takes the last of {', '.join(sorted(places))}")


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
    """Letters of the options whose whole text is in the answer; one inside a longer one that is there is left out."""
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
    """Letters that stand by themselves anywhere."""
    return set(re.findall(rf"(?<![\w'’&.-]){_letter(letters)}", text))
