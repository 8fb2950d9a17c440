"""Open world: an open question about the image; correct if the class name is in the answer (the paper's Section 2.3).

The turns stored with the item are not used: the question is the protocol's prompt. What models fine-tuned on captions
are asked (`prompt: caption`, Section 3.3) is scored alike.
"""

from collections.abc import Iterable

from configs.errors import DataError
from configs.eval_dir import EvalDir
from configs.protocol import ProtocolConfig
from data_prep.class_names import load_class_list
from data_prep.prompts import classification_prompt, image_question
from data_prep.sample import Sample, Turn
from eval.scorers.registry import find_scorer
from eval.tasks.item_labels import ItemLabels
from eval.tasks.scored_text import delete_characters, scored_text
from eval.tasks.synonyms import load_synonyms
from eval.types import ItemIndex, Prediction, Question, Reference, Score


class OpenWorld:
    """One prompt for all items; the class name or a synonym is looked for in the answer."""

    output = "text"

    def __init__(self, config: ProtocolConfig):
        """Look up prompt, scorer and synonyms. Raises `ConfigError` or `DataError` if one is unknown."""
        self.turns = (Turn("human", image_question(classification_prompt(config.prompt))),)
        self.config = config
        self.scorer = find_scorer(config.match, "protocol.match")
        self.synonyms = load_synonyms(config.synonyms, config.classes) if config.synonyms else {}
        self.listed = dict.fromkeys(load_class_list(config.classes).names if config.classes else ())
        self.class_names = self._accepted(self.listed)
        self.labels = ItemLabels(config)

    def question(self, sample: Sample, item_index: ItemIndex | None = None) -> Question:  # noqa: ARG002
        """The prompt; its expected answer is the item's class name. Raises `DataError` for an unlisted class."""
        label = class_of(sample, "open_world")
        if self.listed and label not in self.listed:
            raise DataError(f"its class {label!r} is not among the {len(self.listed)} of protocol.classes")
        return Question(self.turns, label)

    def prepare(self, folder: EvalDir, predictions: Iterable[Prediction]) -> None:  # noqa: ARG002
        """Collect the names of all classes; the scorer `name` needs them to recognize answers that name several.

        Raises `DataError` for items that protocol.labels does not have.
        """
        predictions = list(predictions)
        self.labels.prepare(predictions)
        listed = load_class_list(self.config.classes).names if self.config.classes else ()
        self.class_names = self._accepted((*listed, *(prediction.target for prediction in predictions)))

    def score(self, prediction: Prediction) -> Score:
        """By the protocol's scorer, synonyms accepted."""
        return self.scorer(OpenWorld.text(self, prediction), self.reference(prediction))

    def text(self, prediction: Prediction) -> str:
        """The part of the answer that the protocol scores."""
        return scored_text(prediction.answer, self.config, prediction.prefix)

    def reference(self, prediction: Prediction) -> Reference:
        """The names of all right classes and their synonyms; the names of all classes."""
        labels = self.labels_of(prediction)
        names = self._accepted(labels)
        accepted = tuple(delete_characters(name, self.config.delete_from_label) for name in names)
        target = prediction.target if prediction.target in labels else next(iter(labels), prediction.target)
        return Reference(target, accepted, classes=self.class_names, labels=labels)

    def labels_of(self, prediction: Prediction) -> tuple[str, ...]:
        """The source's label, or those of protocol.labels."""
        return self.labels.of(prediction)

    def relabelled(self, prediction: Prediction) -> Prediction:
        """The prediction with the class that its item counts for, by protocol.labels."""
        return self.labels.relabelled(prediction)

    def _accepted(self, names: Iterable[str]) -> tuple[str, ...]:
        """The names and their synonyms, each once."""
        return tuple(dict.fromkeys(text for name in names for text in (name, *self.synonyms.get(name, ()))))


def class_of(sample: Sample, task: str) -> str:
    """The item's class name. Raises `DataError` if it has no class or no image."""
    if not sample.label_name:
        raise DataError(f"it has no label_name; {task} asks for the class of an image")
    if sample.image is None:
        raise DataError(f"it has no image; {task} asks for the class of an image")
    return sample.label_name
