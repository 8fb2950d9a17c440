"""VQA accuracy: the share of a point by how many of ten people gave the same answer, after both are normalized.

With one person's answer left out, an answer earns min(others who gave it / 3, 1); its score is the mean over the ten
that can be left out (Antol et al. 2015, arXiv 1505.00468, and https://visualqa.org/evaluation.html). Given by k of ten:

    k        0     1     2     3     4 and more
    score    0     0.3   0.6   0.9   1

`score_vqa` normalizes as the code of the VQA challenge, `score_vqa_llava` as that of M4C, which LLaVA uses for TextVQA.
The second also puts both into lower case, deletes commas and question marks, and parts a possessive 's from its word;
the first leaves people's answers as they are where all ten are one text, and never removes their articles.
"""

import json
import re
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from eval.types import Reference, Score

FULL = 3  # other people with the same answer for a whole point
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
NUMBERS = {"none": "0"} | {word: str(number) for number, word in enumerate(WORDS)}
ARTICLES = ("a", "an", "the")
PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
PERIOD = re.compile(r"\.(?!\d)")
MOST_PERIODS = 32  # the challenge's code passes re.UNICODE, which is 32, where re.sub expects a count
CONTRACTIONS = Path(__file__).with_name("vqa_contractions.json")


def score_vqa(answer: str, reference: Reference) -> Score:
    """VQA accuracy as the code of the VQA challenge computes it; `reference.names` are the people's answers."""
    people = [" ".join(re.split(r"[\n\t]", name)).strip() for name in reference.names]
    if len(set(people)) > 1:
        people = [_without_punctuation(name) for name in people]
    return _score(answer, _normalized(answer), people, "vqa")


def score_vqa_llava(answer: str, reference: Reference) -> Score:
    """VQA accuracy as M4C's code computes it; `reference.names` are the people's answers."""
    people = [_normalized(_tokenized(name)) for name in reference.names]
    return _score(answer, _normalized(_tokenized(answer)), people, "vqa_llava")


def vqa_accuracy(answer: str, people: Sequence[str]) -> float:
    """The mean over every left-out person of min(others with this answer / 3, 1). Texts must be equal to match.

    >>> [round(vqa_accuracy("a", ["a"] * same + ["b"] * (10 - same)), 6) for same in range(5)]
    [0.0, 0.3, 0.6, 0.9, 1.0]
    """
    same = Counter(people)[answer]
    others_if_out, others_if_kept = min((same - 1) / FULL, 1), min(same / FULL, 1)
    return (same * max(others_if_out, 0) + (len(people) - same) * others_if_kept) / len(people)


def _score(answer: str, normalized: str, people: Sequence[str], rule: str) -> Score:
    if not answer.strip():
        return Score(None, None, "the answer is empty", 0.0)
    credit, same = vqa_accuracy(normalized, people), Counter(people)[normalized]
    reason = f"{normalized!r} is the answer of {same} of {len(people)} people (rule {rule})"
    return Score(credit > 0, normalized, reason, credit)


def _tokenized(text: str) -> str:
    """Lower case, without commas and question marks, a possessive 's apart from its word."""
    return text.lower().replace(",", "").replace("?", "").replace("'s", " 's").strip()


def _normalized(text: str) -> str:
    """Punctuation, number words, articles and contractions in one form."""
    words = _without_punctuation(re.sub(r"[\n\t]", " ", text).strip()).lower().split()
    numbered = (NUMBERS.get(word, word) for word in words)
    return " ".join(_contractions().get(word, word) for word in numbered if word not in ARTICLES)


def _without_punctuation(text: str) -> str:
    """Each mark deleted if a blank is next to one like it, or if the text has a number like 1,000; else a blank.

    A period is deleted unless a digit follows it: 3.5 remains.
    """
    number = re.search(r"\d,\d", text) is not None
    result = text
    for mark in PUNCTUATION:
        deleted = number or f"{mark} " in text or f" {mark}" in text
        result = result.replace(mark, "" if deleted else " ")
    return PERIOD.sub("", result, count=MOST_PERIODS)


@cache
def _contractions() -> dict[str, str]:
    """Words written without an apostrophe, or with one of two, to the form that is compared."""
    found: dict[str, str] = json.loads(CONTRACTIONS.read_text(encoding="utf-8"))["contractions"]
    return found
