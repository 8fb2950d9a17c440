"""Scorers of yes-or-no questions: what an answer says, `yes` or `no`, compared with the reference.

    score_pope("The picture shows a dog.", Reference("yes"))      ->  correct: neither "no" nor "not" is yes
    score_yes_no("The picture shows a dog.", Reference("yes"))    ->  no answer

`Score.extracted` is what the answer says, from which precision, recall and the share of yes are counted.
"""

import re

from eval.types import Reference, Score

DENIALS = ("No", "no", "not")
WORD = re.compile(r"\b(yes|no)\b")
BOTH = r"(?:\W+or\W+|\s*/\s*)(?:yes|no)\b|\W+and\W+(?:yes|no)\b(?! +\w)"
LEADING = re.compile(rf"[\s\"'*(\[]*(yes|no)\b(?!\s+one\b|{BOTH})")


def score_pope(answer: str, reference: Reference) -> Score:
    """The rule of POPE's evaluate.py (arXiv 2305.10355) and LLaVA's eval_pope.py.

    The answer is no if its first sentence (up to the first period, commas deleted) has one of the words No, no and not
    between blanks, and else yes: "No!" and "NO" are yes.
    """
    if not answer.strip():
        return Score(None, None, "the answer is empty")
    words = answer.split(".")[0].replace(",", "").split(" ")
    denial = next((word for word in DENIALS if word in words), None)
    said = "yes" if denial is None else "no"
    found = f"its first sentence has no {', '.join(DENIALS[:-1])} or {DENIALS[-1]}" if denial is None else repr(denial)
    return Score(said == reference.target, said, f"{said}: {found} (rule pope)")


def score_yes_no(answer: str, reference: Reference) -> Score:
    """By the words yes and no, in any case: the one that begins the answer, else the only one of the two in it.

    "Yes and no" and "yes/no" begin with neither.
    """
    text = answer.strip().lower()
    if not text:
        return Score(None, None, "the answer is empty")
    leading, words = LEADING.match(text), set(WORD.findall(text))
    if leading is None and len(words) != 1:
        return Score(None, None, f"it has {'both yes and no' if words else 'neither yes nor no'} (rule yes_no)")
    said = leading[1] if leading else words.pop()
    where = "at the beginning" if leading else "the only one of yes and no"
    return Score(said == reference.target, said, f"{said}: {where} (rule yes_no)")
