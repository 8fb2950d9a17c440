"""Protocols: what is asked about an item, and how the answer is judged. Each is a `ProtocolConfig` made to act.

    protocol = make_protocol(config.protocol)
    question = protocol.question(sample)       # turns to ask, what the answer is held against
    score = protocol.score(prediction)         # right, wrong or no answer, and why

A protocol sees no model and a scorer sees no item, so all three can be mixed. Adding a protocol: a class with these two
methods, and a line in `PROTOCOLS`.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from configs.errors import DataError
from configs.schema import ProtocolConfig
from data_prep.class_names import SHIPPED, load_class_list
from data_prep.prompts import classification_prompt, image_question
from data_prep.sample import IMAGE_PLACEHOLDER, Sample, Turn
from eval.records import Prediction, Score
from eval.scorers import LETTERS, match_label, score_choice

OPTION = re.compile(r"^\(?([A-J])[.):]\s*(\S.*?)\s*$", re.MULTILINE)


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

    def score(self, prediction: Prediction) -> Score:
        """What a stored answer is worth; a pure function of the line that was stored."""
        ...


class OpenWorld:
    """The paper's classification (Section 2.3): one wording for all items, right if the label is in the answer.

    The turns stored with the item are not used: the wording is the protocol's.
    """

    def __init__(self, config: ProtocolConfig):
        """Look up wording and synonyms. Raises `ConfigError` or `DataError` if there are none of that name."""
        self.turns = (Turn("human", image_question(classification_prompt(config.prompt))),)
        self.rule = config.match
        self.synonyms = load_synonyms(config.synonyms) if config.synonyms else {}

    def question(self, sample: Sample) -> Question:
        """The wording, held against the item's class name."""
        if not sample.label_name:
            raise DataError("it has no label_name; open_world asks for the class of an image")
        if sample.image is None:
            raise DataError("it has no image; open_world asks for the class of an image")
        return Question(self.turns, sample.label_name)

    def score(self, prediction: Prediction) -> Score:
        """By the matching rule, synonyms accepted."""
        return match_label(prediction.answer, (prediction.target, *self.synonyms.get(prediction.target, ())), self.rule)


class MultipleChoice:
    """Questions with lettered options, asked as they are stored (ImageWikiQA): the last turn is the right letter."""

    def __init__(self, config: ProtocolConfig):
        """Nothing of `config` changes how a choice is asked, but for the answer prefix, which the runner adds."""
        self.answer_prefix = config.answer_prefix

    def question(self, sample: Sample) -> Question:
        """The stored turns less the last answer, which is the letter that the reply is held against."""
        if len(sample.turns) < 2 or sample.turns[-1].speaker != "gpt" or sample.turns[-2].speaker != "human":
            raise DataError("its turns do not end with a question and a letter; multiple_choice needs both")
        turns, target = sample.turns[:-1], sample.turns[-1].text.strip().strip("().").upper()
        choices = read_options(turns[-1].text)
        if target not in LETTERS[: len(choices)] or not target:
            raise DataError(f"its answer {sample.turns[-1].text[:40]!r} is none of its {len(choices)} options' letters")
        if sample.image is None and any(IMAGE_PLACEHOLDER in turn.text for turn in turns):
            raise DataError("it asks about an image and has none")
        return Question(turns, target, choices)

    def score(self, prediction: Prediction) -> Score:
        """By the letter, or the option's text, that is found in the answer."""
        return score_choice(prediction.answer, prediction.target, prediction.choices)


PROTOCOLS: Mapping[str, Callable[[ProtocolConfig], EvalProtocol]] = {
    "open_world": OpenWorld,
    "multiple_choice": MultipleChoice,
}


def make_protocol(config: ProtocolConfig) -> EvalProtocol:
    """The protocol that `config` describes. Raises `ConfigError` or `DataError` for an unknown wording or file."""
    return PROTOCOLS[config.kind](config)


def read_options(question: str) -> tuple[str, ...]:
    r"""The texts of options A, B, C, ... on lines of their own; the last run that begins with A counts.

    >>> read_options("Where does it live?\nA. Africa\nB. Asia\nChoose A or B.")
    ('Africa', 'Asia')
    """
    options: list[str] = []
    for letter, text in OPTION.findall(question):
        if letter == "A":
            options = []
        if letter == LETTERS[len(options)]:
            options.append(text)
    return tuple(options)


def load_synonyms(place: str) -> dict[str, tuple[str, ...]]:
    """Class name to the other names accepted for it: a JSON file {name: [names]}, or a class list with synonyms.

    `imagenet` is such a list (WordNet's, as in the paper's Table 8). Two classes of one name share their synonyms.
    Raises `DataError` for a missing file or another form.
    """
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
    classes = load_class_list(place)
    if not classes.synonyms:
        raise DataError(f"the class list {place} has no synonyms; give a JSON file {{class name: [accepted names]}}")
    merged: dict[str, tuple[str, ...]] = {}
    for name, names in zip(classes.names, classes.synonyms, strict=True):
        merged[name] = (*merged.get(name, ()), *(other for other in names if other != name))
    return merged


def _texts(name: str, names: object) -> tuple[str, ...]:
    if not isinstance(names, list) or not all(isinstance(text, str) and text.strip() for text in names):
        raise ValueError(f"the names of {name!r} are {names!r}, not a list of texts")
    return tuple(names)
