"""The open question about an image, and what all protocols share: what a question is, and which names are accepted."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from configs.errors import DataError
from configs.run_dir import EvalDir
from configs.schema import ProtocolConfig
from data_prep.class_names import SHIPPED, load_class_list
from data_prep.prompts import classification_prompt, image_question
from data_prep.sample import Sample, Turn
from eval.records import Prediction, Score
from eval.scorers import match_label


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked: turns that end with the human's, what the answer is held against, and the options if there are."""

    turns: tuple[Turn, ...]
    target: str
    choices: tuple[str, ...] = ()


class EvalProtocol(Protocol):
    """What the runner and the report know of a protocol."""

    def question(self, sample: Sample) -> Question:
        """The question about `sample`. Raises `DataError` if this item cannot be asked that way."""
        ...

    def prepare(self, folder: EvalDir, predictions: Iterable[Prediction]) -> None:
        """Look at all answers of an evaluation before the first is scored, where a score depends on the others."""
        ...

    def score(self, prediction: Prediction) -> Score:
        """What a stored answer is worth; a function of the line that was stored."""
        ...


def judged_text(answer: str, after_last: str | None) -> str:
    """What of an answer is judged: all, or what follows the last `after_last`.

    >>> judged_text("a dog Answer: a cat", "Answer:")
    'a cat'
    """
    return answer if after_last is None else answer.rsplit(after_last, 1)[-1].strip()


def class_of(sample: Sample, kind: str) -> str:
    """The class that an item is asked for. Raises `DataError` if it has no class or no image."""
    if not sample.label_name:
        raise DataError(f"it has no label_name; {kind} asks for the class of an image")
    if sample.image is None:
        raise DataError(f"it has no image; {kind} asks for the class of an image")
    return sample.label_name


class OpenWorld:
    """The paper's classification (Section 2.3): one wording for all items, right if the label is in the answer.

    The turns stored with the item are not used: the wording is the protocol's.
    """

    def __init__(self, config: ProtocolConfig):
        """Look up wording and synonyms. Raises `ConfigError` or `DataError` if there are none of that name."""
        self.turns = (Turn("human", image_question(classification_prompt(config.prompt))),)
        self.rule = config.match
        self.synonyms = load_synonyms(config.synonyms, config.classes) if config.synonyms else {}
        self.after_last = config.after_last

    def question(self, sample: Sample) -> Question:
        """The wording, held against the item's class name."""
        return Question(self.turns, class_of(sample, "open_world"))

    def prepare(self, folder: EvalDir, predictions: Iterable[Prediction]) -> None:
        """Nothing: each answer stands for itself."""

    def score(self, prediction: Prediction) -> Score:
        """By the matching rule, synonyms accepted."""
        names = (prediction.target, *self.synonyms.get(prediction.target, ()))
        return match_label(judged_text(prediction.answer, self.after_last), names, self.rule)


def load_synonyms(place: str, classes: str | None = None) -> dict[str, tuple[str, ...]]:
    """Class name to the other names accepted for it: a JSON file {name: [names]}, or a class list with synonyms.

    `imagenet` is such a list (WordNet's, as in the paper's Table 8). `auto` takes those of the list `classes`, and none
    if it has none. Two classes of one name share their synonyms. Raises `DataError` for a missing file or another form.
    """
    if place == "auto":
        if classes is None or not load_class_list(classes).synonyms:
            return {}
        place = classes
    path = Path(place).expanduser()
    if not path.is_file() and not (SHIPPED / f"{place}.json").is_file():
        raise DataError(f"no synonyms {place}: neither a file nor a shipped class list; set protocol.synonyms")
    if path.is_file():
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            if isinstance(values, dict) and "names" not in values:
                return {name: _texts(name, names) for name, names in values.items()}
        except ValueError as error:
            raise DataError(f"{place} is no synonyms file {{class name: [accepted names]}}: {error}") from error
    known = load_class_list(place)
    if not known.synonyms:
        raise DataError(f"the class list {place} has no synonyms; give a JSON file {{class name: [accepted names]}}")
    merged: dict[str, tuple[str, ...]] = {}
    for name, names in zip(known.names, known.synonyms, strict=True):
        merged[name] = (*merged.get(name, ()), *(other for other in names if other != name))
    return merged


def _texts(name: str, names: object) -> tuple[str, ...]:
    if not isinstance(names, list) or not all(isinstance(text, str) and text.strip() for text in names):
        raise ValueError(f"the names of {name!r} are {names!r}, not a list of texts")
    return tuple(names)
