"""The classes that are right for each item: its source's label, or those of the file protocol.labels."""

from collections.abc import Sequence
from dataclasses import replace

from configs.errors import DataError
from configs.protocol import ProtocolConfig
from data_prep.class_names import load_class_list
from data_prep.label_sets import load_label_sets
from eval.types import Prediction

SHOWN = 3  # items in a message


class ItemLabels:
    """Item to the class names that are right.

    labels = ItemLabels(protocol)
    labels.of(prediction)                # ("tench",), or all labels of the item in the file; () if none fits the image
    """

    def __init__(self, config: ProtocolConfig):
        """Read the file, if there is one. Raises `DataError` if it cannot be read or has labels of no class."""
        self.missing = config.labels_missing
        classes = load_class_list(config.classes) if config.labels and config.classes else None
        self.sets = load_label_sets(config.labels, classes) if config.labels else None
        self._indices: dict[str, int | None] = {}

    def prepare(self, predictions: Sequence[Prediction]) -> None:
        """Collect the indices of the classes. Raises `DataError` for items that the file does not have."""
        self._indices = {p.label_name: p.label for p in predictions if p.label_name}
        if self.sets is None:
            return
        missing = self.sets.missing(prediction.id for prediction in predictions)
        if missing and (self.missing == "refuse" or len(missing) == len(predictions)):
            hint = (
                "no id of the file is that of an item"
                if len(missing) == len(predictions)
                else "keep their own labels with protocol.labels_missing=keep, or leave them out and count them with "
                "leave_out"
            )
            raise DataError(
                f"protocol.labels {self.sets.path} has no labels of {len(missing):,} of {len(predictions):,} items "
                f"({', '.join(missing[:SHOWN])}); {hint}"
            )

    def of(self, prediction: Prediction) -> tuple[str, ...]:
        """The class names that are right; none if no label fits, or the file does not have the item."""
        found = None if self.sets is None else self.sets.of(prediction.id)
        if found is not None:
            return found
        return (prediction.target,) if self.sets is None or self.missing == "keep" else ()

    def relabelled(self, prediction: Prediction) -> Prediction:
        """The prediction with the class that its item counts for: the source's if it is right, else the first label."""
        labels = self.of(prediction)
        if self.sets is None or not labels or prediction.label_name in labels:
            return prediction
        return replace(prediction, label_name=labels[0], label=self._indices.get(labels[0]))
