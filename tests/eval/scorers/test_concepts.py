"""The concepts in an answer: noun phrases without the words of every answer."""

import pytest

from eval.scorers.concepts import concepts


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ("This is a photo of a small brown dog on a red sofa.", ("small brown dog", "red sofa")),
        ("beagle", ("beagle",)),
        ("The image shows a dog, a cat and two birds.", ("dog", "cat", "birds")),
        ("It is an object.", ()),
        ("A black-eyed Susan!", ("black-eyed susan",)),
        ("a dog; a dog", ("dog",)),
        ("", ()),
        ("It's a bird of paradise", ("it's", "bird", "paradise")),
    ],
)
def test_phrases_end_at_words_that_no_name_has(answer, found):
    assert concepts(answer) == found
