"""The open question about an image, and what all protocols share: what a question is, and which names are accepted."""

import json
from collections.abc import Iterable
from pathlib import Path

from configs.errors import DataError, RunError
from configs.protocol import ProtocolConfig
from configs.run_dir import EvalDir
from data_prep.class_names import SHIPPED, load_class_list
from data_prep.prompts import classification_prompt, image_question
from data_prep.sample import Sample, Turn
from eval.scorers.match import match_label
from eval.types import Prediction, Question, Score, SourceIndex

OFFICIAL = "official"  # after_last: the model's family says which text


def judged_text(answer: str, config: ProtocolConfig) -> str:
    """What of an answer is judged: all, or what follows the last `after_last`; less the characters `answer_without`.

    >>> judged_text("a dog Answer: a (big) cat", ProtocolConfig(after_last="Answer:", answer_without="()"))
    'a big cat'

    Raises `RunError` if `after_last` is still `official`: nobody has said of which family the model is.
    """
    mark = config.after_last
    if mark == OFFICIAL:
        raise RunError(
            "protocol.after_last is official, and evaluation.json is older than that and does not say the model's "
            "family; run the same command without --report-only: it asks nothing again and notes it"
        )
    text = answer if mark is None else answer.rsplit(mark, 1)[-1].strip()
    return without(text, config.answer_without)


def without(text: str, characters: str) -> str:
    """The text with every one of `characters` deleted."""
    return text.translate(dict.fromkeys(map(ord, characters)))


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
        self.config = config
        self.synonyms = load_synonyms(config.synonyms, config.classes) if config.synonyms else {}

    def question(self, sample: Sample, source_index: SourceIndex | None = None) -> Question:  # noqa: ARG002
        """The wording, held against the item's class name."""
        return Question(self.turns, class_of(sample, "open_world"))

    def prepare(self, folder: EvalDir, predictions: Iterable[Prediction]) -> None:
        """Nothing: each answer stands for itself."""

    def score(self, prediction: Prediction) -> Score:
        """By the matching rule, synonyms accepted."""
        names = (prediction.target, *self.synonyms.get(prediction.target, ()))
        wanted = [without(name, self.config.label_without) for name in names]
        return match_label(judged_text(prediction.answer, self.config), wanted, self.config.match)


class HiddenStates(OpenWorld):
    """The same question, of which states are stored and no answer is judged (`eval.probing`)."""

    def question(self, sample: Sample, source_index: SourceIndex | None = None) -> Question:  # noqa: ARG002
        """The wording. Raises `DataError` for an item without a label, from which no head learns."""
        if sample.label is None:
            raise DataError("it has no label; a linear head learns from labels")
        return Question(self.turns, class_of(sample, "features"))

    def score(self, prediction: Prediction) -> Score:  # noqa: ARG002
        """Nothing was answered."""
        return Score(None, None, "states are stored, not judged")


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
