"""The grader `tree`: right, too general, too specific or wrong, by a tree of names such as WordNet's."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from configs.errors import ConfigError
from configs.evaluation import EvalConfig
from data_prep.class_tree import ClassTree, load_class_tree, synsets_of_classes
from eval.graders.types import NO_ANSWER, RIGHT, WRONG, Grade, StoredAnswer
from eval.scorers.tree_relation import TOO_GENERAL, TOO_SPECIFIC, TreeRelation

SHOWN = 3  # classes in a message


class TreeGrader:
    """Grades by `TreeRelation`. In WordNet's tree a class is the synset that its class list names, else all senses."""

    outcomes: ClassVar[Sequence[str]] = (RIGHT, TOO_GENERAL, TOO_SPECIFIC, WRONG, NO_ANSWER)
    uses_question: ClassVar[bool] = False
    about: ClassVar[str] = (
        "right if the answer names the class, too general if it names one above it in the tree of names, too specific "
        "if it names one below it, wrong if it names neither or also another class"
    )

    def __init__(self, config: EvalConfig):
        """Read the tree. Raises `ConfigError` if none is named, `DataError` if it cannot be read."""
        if config.grading.tree is None:
            raise ConfigError(
                "grading.tree is not set; the grader tree needs a folder with WordNet's data.noun and index.noun, a "
                "JSON file {name: [names of its parents]}, or a shipped tree: cifar10"
            )
        self.tree: ClassTree = load_class_tree(config.grading.tree)
        classes = config.protocol.classes
        known = synsets_of_classes(classes) if classes and self.tree.wordnet else {}
        self.synsets = {name: synset for name, synset in known.items() if synset in self.tree.names}
        if known and len(self.synsets) < len(known):
            missing = next(synset for synset in known.values() if synset not in self.tree.names)
            raise ConfigError(
                f"the synset {missing} of protocol.classes {classes} is not in {config.grading.tree}; class lists have "
                "the synsets of WordNet 3.0: set grading.tree to that version's files"
            )

    @property
    def settings(self) -> Mapping[str, Any]:
        """The tree's content, and which synset each class is."""
        synsets = json.dumps(sorted(self.synsets.items()))
        return {"tree": self.tree.digest, "synsets": hashlib.sha256(synsets.encode()).hexdigest()}

    def grade(self, answers: Sequence[StoredAnswer]) -> Iterator[tuple[StoredAnswer, Grade]]:
        """The relation of each answer to the labels of its item.

        Raises `ConfigError` for questions with options, and if no class is in the tree.
        """
        if not answers:
            return
        relation = TreeRelation(self.tree, answers[0].reference.classes, self.synsets)
        labels = dict.fromkeys(label for answer in answers for label in answer.reference.labels)
        if any(answer.reference.choices for answer in answers):
            raise ConfigError("the grader tree compares class names; the answers of this evaluation are letters")
        if not any(relation.nodes_of(label) for label in labels):
            raise ConfigError(
                f"no class ({', '.join([*labels][:SHOWN])}) is in the tree {self.tree.source}; set grading.tree to a "
                "tree that has them"
            )
        for answer in answers:
            reference = answer.reference
            found = relation.of(answer.text, reference.labels, reference.names)
            yield answer, Grade(found.outcome, found.why, extracted=found.name, flags=found.flags)
