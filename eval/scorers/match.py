"""Scorers for open questions: correct if the answer contains an accepted name. Case is ignored.

    score_contains("It is a Pink Primrose.", Reference("rose")).value    ->  True   (the paper's rule, Section 2.3)
    score_word("It is a Pink Primrose.", Reference("rose")).value        ->  False  (not inside a longer word)
    score_exact("pink primrose ", Reference("Pink Primrose")).value      ->  True   (the whole answer)

An empty answer is counted separately from wrong answers (`value` is None).
"""

import re
from collections.abc import Callable

from eval.types import Reference, Score


def score_contains(answer: str, reference: Reference) -> Score:
    """Right if a name occurs in the answer, also inside a longer word, as in the paper."""
    return _score(answer, reference, "contains", lambda text, name: text.find(name))


def score_word(answer: str, reference: Reference) -> Score:
    """Right if a name occurs in the answer as whole words."""
    return _score(answer, reference, "word", _find_word)


def score_exact(answer: str, reference: Reference) -> Score:
    """Right if the answer equals a name except for surrounding white space: the authors' rule for fine-tuned models."""
    return _score(answer, reference, "exact", lambda text, name: 0 if text == name else -1)


def _score(answer: str, reference: Reference, rule: str, find: Callable[[str, str], int]) -> Score:
    """Right if `find` locates a name; it returns a character index or -1."""
    text = answer.strip().lower()
    if not text:
        return Score(None, None, "the answer is empty")
    for name in reference.names:
        start = find(text, name.strip().lower())
        if start >= 0:
            return Score(True, name, f"{name!r} found at character {start} (rule {rule})")
    return Score(False, None, f"none of {', '.join(map(repr, reference.names))} found (rule {rule})")


def _find_word(text: str, name: str) -> int:
    found = re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text)
    return found.start() if found else -1
