r"""Text to tokens as in the Penn Treebank, close to nltk's `word_tokenize`, with which the paper's authors count names.

    >>> tokens("A colt's foot (flower). It isn't a jack-o'-lantern!")
    ['a', 'colt', "'s", 'foot', '(', 'flower', ')', '.', 'it', 'is', "n't", 'a', "jack-o'-lantern", '!']

Punctuation marks are separate tokens (a full stop only at a sentence's end); clitics are split off, hyphenated words
are not split. Differences from the original: quotes are not paired, sentences end at .!? before a space that no small
letter follows (of abbreviations only those in class names are known), and contractions such as "cannot" stay whole.
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
