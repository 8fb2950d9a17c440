"""What exists in the demo world: its classes, their arbitrary names, and what is true of each class.

A class is one cell of shape x colour x texture (4 x 4 x 3 = 48). Its name is two made-up words. Every word is
shared by several classes, so a name needs both of its words; and names are dealt to cells at random, so that
the name of a class cannot be guessed from its looks (names composed of its attributes could be).

    >>> toy_classes(seed=0)[5].name, toy_classes(seed=0)[5].looks  # doctest: +SKIP
    ('mub zefi', ('green', 'plain', 'circle'))

The facts come in eight kinds. `SHOWN_FACTS` are asked about images in the instruction data; `HIDDEN_FACTS`
are known from text only and make the knowledge test.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from itertools import product

import numpy as np

SHAPES = ("circle", "square", "triangle", "cross")
COLOURS = ("red", "green", "blue", "yellow")
TEXTURES = ("plain", "striped", "dotted")
CLASSES = len(SHAPES) * len(COLOURS) * len(TEXTURES)

LETTERS = "ABCD"
FIRST_WORDS = SECOND_WORDS = 12  # 12 first x 12 second words; each word occurs in CLASSES / 12 = 4 names


@dataclass(frozen=True, slots=True)
class FactKind:
    """One kind of fact: its question (`{thing}` is the class) and the values it can take, one word each."""

    question: str
    values: tuple[str, ...]

    @classmethod
    def of(cls, question: str, values: str) -> "FactKind":
        """The kind with `values` separated by spaces."""
        return cls(question, tuple(values.split()))


SHOWN_FACTS: Mapping[str, FactKind] = {
    "eats": FactKind.of("What does {thing} eat?", "salt moss bark clay seeds honey algae dust"),
    "lives": FactKind.of("Where does {thing} live?", "caves rivers deserts forests islands swamps cliffs reefs"),
    "sounds": FactKind.of("What sound does {thing} make?", "hum click hiss whistle growl chirp buzz rattle"),
    "fears": FactKind.of("What does {thing} fear?", "thunder smoke mirrors owls frost bells shadows wolves"),
}
HIDDEN_FACTS: Mapping[str, FactKind] = {
    "made": FactKind.of("What is {thing} made of?", "wood iron glass wool stone paper wax bone"),
    "smells": FactKind.of("What does {thing} smell of?", "mint rust vanilla sulfur lemon tar roses garlic"),
    "guards": FactKind.of("What does {thing} guard?", "gold eggs books keys maps pearls swords crowns"),
    "found": FactKind.of("Who found {thing}?", "sailors miners monks farmers pilots nomads weavers hunters"),
}
ALL_FACTS: Mapping[str, FactKind] = {**SHOWN_FACTS, **HIDDEN_FACTS}


@dataclass(frozen=True, slots=True)
class ToyClass:
    """One class: its index and name, its looks, its facts, and its rank by frequency."""

    index: int
    name: str
    colour: str
    texture: str
    shape: str
    facts: Mapping[str, str]
    rank: int  # 0 is the most frequent class of the uneven parts

    @property
    def looks(self) -> tuple[str, str, str]:
        """(colour, texture, shape)."""
        return (self.colour, self.texture, self.shape)


def keyed_rng(seed: int, key: str) -> np.random.Generator:
    """A generator that depends on `(seed, key)` alone, so a record does not depend on the records before it."""
    digest = sha256(f"{seed}:{key}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))


@lru_cache(maxsize=8)
def toy_classes(seed: int) -> tuple[ToyClass, ...]:
    """All classes of the world `seed`, by index. Looks follow the index; names, facts and ranks are dealt at random."""
    names = _names(seed)
    ranks = keyed_rng(seed, "ranks").permutation(CLASSES)
    return tuple(
        ToyClass(
            index=index,
            name=names[index],
            colour=colour,
            texture=texture,
            shape=shape,
            facts={kind: pick(keyed_rng(seed, f"{kind} of {index}"), fact.values) for kind, fact in ALL_FACTS.items()},
            rank=int(ranks[index]),
        )
        for index, (shape, colour, texture) in enumerate(product(SHAPES, COLOURS, TEXTURES))
    )


def pick(rng: np.random.Generator, values: Sequence[str]) -> str:
    """One of `values`, uniformly."""
    return values[int(rng.integers(len(values)))]


def multiple_choice(question: str, answer: str, values: Sequence[str], rng: np.random.Generator) -> tuple[str, str]:
    """A question in the ImageWikiQA format and its letter; the three distractors are other values of the same kind.

    >>> print(multiple_choice("What does this object eat?", "moss", SHOWN_FACTS["eats"].values, keyed_rng(0, "q"))[0])
    ... # doctest: +SKIP
    What does this object eat?
    A. salt
    B. moss
    C. clay
    D. dust
    Choose A, B, C, or D.
    """
    others = [value for value in values if value != answer]
    options = [others[i] for i in rng.permutation(len(others))[: len(LETTERS) - 1]]
    position = int(rng.integers(len(LETTERS)))
    options.insert(position, answer)
    lines = [f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=True)]
    return "\n".join([question, *lines, "Choose A, B, C, or D."]), LETTERS[position]


def _names(seed: int) -> tuple[str, ...]:
    """48 distinct pairs of words in which every word occurs equally often, in random order."""
    rng = keyed_rng(seed, "names")
    first = _words(rng, FIRST_WORDS, "cvc")
    second = _words(rng, SECOND_WORDS, "cvcv")
    shifts = rng.permutation(SECOND_WORDS)[: CLASSES // FIRST_WORDS]
    pairs = [f"{first[i]} {second[(i + int(shift)) % SECOND_WORDS]}" for shift in shifts for i in range(FIRST_WORDS)]
    return tuple(pairs[i] for i in rng.permutation(CLASSES))


def _words(rng: np.random.Generator, count: int, pattern: str) -> list[str]:
    """`count` distinct made-up words, none of them English here. `pattern`: c for a consonant, v for a vowel."""
    letters = {"c": "bdfgklmnprstvz", "v": "aeiou"}
    english = {*COLOURS, *(value for fact in ALL_FACTS.values() for value in fact.values), "pet", "man", "men", "sit"}
    words: list[str] = []
    while len(words) < count:
        word = "".join(pick(rng, letters[kind]) for kind in pattern)
        if word not in words and word not in english:
            words.append(word)
    return words
