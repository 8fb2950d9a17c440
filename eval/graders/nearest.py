"""The grader `nearest`: every answer becomes a class of the list; one that names none becomes the nearest one.

Answers that name no listed class need not be wrong (arXiv 2603.06578): they are compared with all class names as
sentence embeddings. The report counts these off-list answers.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from configs.errors import ConfigError
from configs.evaluation import EvalConfig
from data_prep.class_names import load_class_list
from eval.graders.embedding import TOGETHER, Embeddings, Vectors
from eval.graders.types import NO_ANSWER, OUTCOMES, RIGHT, WRONG, Grade, StoredAnswer
from eval.scorers.class_name import stated_mentions, words_of
from eval.tasks.synonyms import load_synonyms

OFF_LIST, SEVERAL, TIE = "off-list", "names several classes", "tie"
EQUAL = 1e-6  # cosines that differ by less are equal


class Nearest:
    """Right if the class that the answer names or is nearest to is one of the item's labels."""

    outcomes: ClassVar[Sequence[str]] = OUTCOMES
    uses_question: ClassVar[bool] = False
    about: ClassVar[str] = (
        "right if the one listed class that the answer names is the label; an answer that names none, or several, is "
        "mapped to the class whose name (or synonym) has the nearest sentence embedding, of equal ones the first"
    )

    def __init__(self, config: EvalConfig):
        """Raises `ConfigError` without an encoder or a class list."""
        if config.protocol.classes is None:
            raise ConfigError("protocol.classes is not set; the grader nearest maps answers to the classes of a list")
        self.embeddings = Embeddings(config, "nearest")
        self.classes = tuple(dict.fromkeys(load_class_list(config.protocol.classes).names))
        synonyms = load_synonyms(config.protocol.synonyms, config.protocol.classes) if config.protocol.synonyms else {}
        self.names = {name: (name, *synonyms.get(name, ())) for name in self.classes}
        self.spoken = tuple(dict.fromkeys(name for names in self.names.values() for name in names))

    @property
    def settings(self) -> Mapping[str, Any]:
        """The encoder, and the classes with their names."""
        names = json.dumps(list(self.names.items())).encode()
        return {**self.embeddings.settings, "classes": hashlib.sha256(names).hexdigest()}

    def grade(self, answers: Sequence[StoredAnswer]) -> Iterator[tuple[StoredAnswer, Grade]]:
        """Each answer by its class. Raises `ConfigError` for questions with options."""
        if any(answer.reference.choices for answer in answers):
            raise ConfigError("the grader nearest compares class names; the answers of this evaluation are letters")
        for start in range(0, len(answers), TOGETHER):
            part = [(answer, self._named(answer.text)) for answer in answers[start : start + TOGETHER]]
            if unclear := [answer.text for answer, named in part if named is not None and len(named) != 1]:
                self.embeddings.of(unclear)  # together, which is faster than one by one
            yield from ((answer, self._grade(answer, named)) for answer, named in part)

    def _named(self, text: str) -> list[str] | None:
        """The classes that the answer names without denying them, not inside a longer name; None if it is empty."""
        if not (words := words_of(text)):
            return None
        found = stated_mentions(words, self.spoken)
        return list(dict.fromkeys(label for mention in found for label in self._classes_by_name[mention.name.lower()]))

    def _grade(self, answer: StoredAnswer, named: Sequence[str] | None) -> Grade:
        if named is None:
            return Grade(NO_ANSWER, "the answer is empty")
        if len(named) == 1:
            return self._graded(answer, named[0], f"it names {named[0]!r}")
        cosines = self.embeddings.of([answer.text])[0] @ self._name_vectors.T
        best = np.full(len(self.classes), -np.inf)
        np.maximum.at(best, self._class_of_vector, cosines)
        if named:  # of several classes that it names the nearest
            best[[index for index, label in enumerate(self.classes) if label not in named]] = -np.inf
        equal = np.flatnonzero(best >= best.max() - EQUAL)
        nearest = self.classes[int(equal[0])]
        why = f"it is nearest to {nearest!r} (cosine {best.max():.3f})"
        flags = (SEVERAL if named else OFF_LIST, *((TIE,) if len(equal) > 1 else ()))
        why += f"; {len(equal):,} classes are equally near" if len(equal) > 1 else ""
        return self._graded(answer, nearest, why, (*flags, *self.embeddings.flags(answer.text)))

    def _graded(self, answer: StoredAnswer, label: str, why: str, flags: tuple[str, ...] = ()) -> Grade:
        outcome = RIGHT if label in answer.reference.labels else WRONG
        return Grade(outcome, why, extracted=label, flags=flags)

    @cached_property
    def _classes_by_name(self) -> dict[str, list[str]]:
        """Name in lower case to the class of this name; a synonym that is no class name to all classes that have it."""
        found: dict[str, list[str]] = {}
        for label, names in self.names.items():
            for name in names[1:]:
                found.setdefault(name.lower(), []).append(label)
        return found | {label.lower(): [label] for label in self.classes}

    @cached_property
    def _class_of_vector(self) -> NDArray[np.int64]:
        """By row of `_name_vectors` the index of the class."""
        return np.array([index for index, names in enumerate(self.names.values()) for _ in names])

    @cached_property
    def _name_vectors(self) -> Vectors:
        """A row for each name of each class."""
        return self.embeddings.of([name for names in self.names.values() for name in names])
