"""Do the classes of the items fit the class list of the protocol? Checked before a model is loaded.

A question about an item whose class is not among the candidates has no right answer.
"""

from configs.errors import DataError
from configs.evaluation import EvalConfig
from data_prep.class_matching import ClassDifference, class_counts, shortened
from data_prep.class_names import load_class_list
from data_prep.shards import ShardSet
from eval.runner.batching import chosen_items

NO_CLASS_LIST = ("multiple_choice", "hidden_states")
"""Tasks that do not use protocol.classes."""
CLASS_TASKS = ("open_world", "closed_world", "class_likelihood", "zero_shot", "hidden_states")
"""Tasks that ask for the class of an item."""


def check_classes(config: EvalConfig, shards: ShardSet) -> list[str]:
    """What is to be said about the classes of the items and protocol.classes, one sentence each; often nothing.

    Raises `DataError` if no item has a class, and for items of classes that the list lacks, unless
    protocol.unknown_classes is `leave_out`: both lists' unmatched classes are named.
    """
    protocol = config.protocol
    listed = protocol.task not in NO_CLASS_LIST and protocol.classes is not None
    if not listed and (protocol.task not in CLASS_TASKS or shards.manifest.class_names):
        return []
    counts = class_counts(shards, chosen_items(shards.index["id_hash"].tolist(), config.limit))
    if protocol.task in CLASS_TASKS and not any(counts.values()):
        raise DataError(
            f"no item of source {config.source} has a class, and protocol.task {protocol.task} asks for it; build the "
            "source with class labels (jsonl: label_key), or use another task"
        )
    if not listed or protocol.classes is None:
        return []
    found = ClassDifference.of(counts, load_class_list(protocol.classes).names)
    known = f"protocol.classes {protocol.classes}"
    if found.unknown:
        text = found.describe(config.source, known)
        if protocol.unknown_classes == "refuse":
            raise DataError(
                f"{text}. Name the list that the source was built with (its folder of shards is one: {shards.folder}), "
                "or leave these items out and count them with protocol.unknown_classes=leave_out"
            )
        return [f"{text}; these items are left out and counted as failed (protocol.unknown_classes: leave_out)"]
    if found.unused:
        return [
            f"{len(found.unused):,} classes of {known} have no item in {config.source}, where they can only be wrong "
            f"answers: {shortened(found.unused)}"
        ]
    return []
