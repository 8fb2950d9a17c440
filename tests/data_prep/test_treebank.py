"""Tokens as nltk cuts them: by hand, and against nltk where it is installed."""

import pytest

from data_prep.class_names import load_class_list
from data_prep.treebank import tokens

LISTS = ("imagenet", "flowers102", "stanford_cars", "caltech101")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("kite (bird of prey)", ["kite", "(", "bird", "of", "prey", ")"]),
        ("yellow lady's slipper", ["yellow", "lady", "'s", "slipper"]),
        ("St. Bernard", ["st.", "bernard"]),
        ("jack-o'-lantern", ["jack-o'-lantern"]),
        ("A dog. The cat, a bra!", ["a", "dog", ".", "the", "cat", ",", "a", "bra", "!"]),
        ("It isn't 3,000: they're 'old' dogs'", ["it", "is", "n't", "3,000", ":", "they", "'re", "'", "old", "'",
                                                 "dogs", "'"]),
        ("", []),
    ],
)  # fmt: skip
def test_tokens_are_those_of_the_treebank(text, expected):
    assert tokens(text) == expected


def test_every_shipped_name_is_cut_as_nltk_cuts_it():
    nltk = pytest.importorskip("nltk.tokenize")
    tokenizer = nltk.NLTKWordTokenizer()
    for name in (name for words in LISTS for name in load_class_list(words).names):
        assert tokens(name) == tokenizer.tokenize(name.lower())


def test_ten_shipped_names_are_not_their_own_tokens_joined():
    names = [name for words in LISTS for name in load_class_list(words).names]
    assert sum(" ".join(tokens(name)) != name.lower() for name in names) == 10
