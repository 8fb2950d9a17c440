"""What the label sets of protocol.labels change: counts for report.json, and their sentence on the page."""

from collections.abc import Mapping, Sequence
from typing import Any

from configs.protocol import ProtocolConfig
from data_prep.page import Block, Text
from eval.reports.candidate_set import candidates_of
from eval.tasks.item_labels import ItemLabels
from eval.types import Prediction


def label_set_numbers(predictions: Sequence[Prediction], protocol: ProtocolConfig) -> dict[str, Any] | None:
    """Counts over the answered items; None without protocol.labels.

    `unlabelled` items have no label that fits and are in no other number; `several` have more than one label, `changed`
    none that equals the source's, and `no_candidate` none that the model could choose.
    """
    if protocol.labels is None:
        return None
    labels = ItemLabels(protocol)
    sets = {prediction.id: labels.of(prediction) for prediction in predictions}
    scored = [prediction for prediction in predictions if sets[prediction.id]]
    return {
        "file": protocol.labels,
        "labelled": len(scored),
        "unlabelled": len(predictions) - len(scored),
        "several": sum(len(sets[prediction.id]) > 1 for prediction in scored),
        "changed": sum(prediction.target not in sets[prediction.id] for prediction in scored),
        "no_candidate": sum(_without_candidate(protocol, prediction, sets[prediction.id]) for prediction in scored),
        "mean_labels": sum(len(sets[prediction.id]) for prediction in scored) / len(scored) if scored else None,
    }


def _without_candidate(protocol: ProtocolConfig, prediction: Prediction, labels: Sequence[str]) -> bool:
    """Whether the item was scored among some classes of which none is right."""
    shown = candidates_of(protocol, prediction)
    return shown is not None and not set(shown) & set(labels)


def label_set_blocks(report: Mapping[str, Any]) -> list[Block]:
    """The counts as sentences; nothing without label sets."""
    found = report.get("label_sets")
    if not found:
        return []
    mean = "" if found["mean_labels"] is None else f", {found['mean_labels']:.2f} labels on average"
    blocks: list[Block] = [
        Text(
            f"Labels are those of {found['file']}: an answer is correct if it is one of the labels of its image. "
            f"{found['labelled']:,} images have a label{mean}; {found['several']:,} have several, and of "
            f"{found['changed']:,} none is the label of the source. Each image counts for the class of its source, or "
            "for its first label where that class is not among them."
        )
    ]
    if found["unlabelled"]:
        blocks.append(
            Text(
                f"Answered images without a label there: {found['unlabelled']:,}. They are left out of all numbers.",
                warning=True,
            )
        )
    if found["no_candidate"]:
        blocks.append(
            Text(
                f"{found['no_candidate']:,} images cannot be answered correctly: candidates are drawn around the label "
                "of the source, and none of theirs is right by the label sets.",
                warning=True,
            )
        )
    return blocks
