r"""Text to tokens as in the Penn Treebank, near to nltk's `word_tokenize`, by which the paper's authors count names.

    >>> tokens("A colt's foot (flower). It isn't a jack-o'-lantern!")
    ['a', 'colt', "'s", 'foot', '(', 'flower', ')', '.', 'it', 'is', "n't", 'a', "jack-o'-lantern", '!']

Marks stand alone, a full stop only at a sentence's end; clitics are cut off, hyphens are not. Left out of the original:
quotes are no pairs, sentences end at .!? before a space and no small letter (of abbreviations only those of class names
are known), and contractions such as "cannot" stay whole.
"""

import re

_SENTENCE = re.compile(r"(?<=[.!?])(?<!\bSt\.)(?<!\bConv\.)\s+(?![a-z])")
_MARKS = re.compile(r"(\.\.\.|--|[;@#$%&?!\[\](){}<>\"]|[:,](?!\d))")
_STOP = re.compile(r"(?<=[^.])(\.)([\])}>\"']*)\s*$")
_CLITICS = re.compile(r"(?<=[^\s'])(n't|'(?:s|m|d|ll|re|ve)|')(?=\s|$)")
_OPENING = re.compile(r"(?:(?<=\s)|^)'(?=\w)")


def tokens(text: str) -> list[str]:
    """The text's tokens in lower case."""
    found: list[str] = []
    for sentence in _SENTENCE.split(text):
        ended = _STOP.sub(r" \1 \2", sentence.lower())
        marked = _OPENING.sub("' ", _MARKS.sub(r" \1 ", ended))
        found += _CLITICS.sub(r" \1", marked).split()
    return found
