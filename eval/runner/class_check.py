"""Do the classes of the items fit the class list of the protocol? Checked before a model is loaded.

A question about an item whose class is not among the candidates has no correct answer.
"""

from collections.abc import Mapping
from pathlib import Path

from configs.errors import DataError
from configs.evaluation import EvalConfig
from configs.run_dir import run_of
from data_prep.class_matching import ClassDifference, class_counts, shortened
from data_prep.class_names import load_class_list
from data_prep.shards import ShardSet
from data_prep.spelling import changed_names, spelling_notes
from eval.runner.batching import items_of
from eval.runner.candidate_check import candidate_notes
from eval.tasks.synonyms import load_synonyms

NO_CLASS_LIST = ("multiple_choice", "hidden_states")
"""Tasks that do not use protocol.classes."""
CLASS_TASKS = ("open_world", "closed_world", "class_likelihood", "zero_shot", "trained_probe", "hidden_states")
"""Tasks that ask for the class of an item."""


def check_classes(config: EvalConfig, shards: ShardSet) -> list[str]:
    """What is to be said about the classes of the items and protocol.classes, one sentence each; often nothing.

    Raises `DataError` if no item has a class, and for items of classes that the list lacks, unless
    protocol.unknown_classes is `leave_out`: both lists' unmatched classes are named.
    """
    protocol = config.protocol
    listed = protocol.task not in NO_CLASS_LIST and protocol.classes is not None
    named = listed or (protocol.synonyms is not None and protocol.task in CLASS_TASKS)
    if not named and (protocol.task not in CLASS_TASKS or shards.manifest.class_names):
        return _writing_notes(config, shards)
    counts = class_counts(shards, items_of(config, shards))
    if protocol.task in CLASS_TASKS and not any(counts.values()):
        raise DataError(
            f"no item of source {config.source} has a class, and protocol.task {protocol.task} asks for it; build the "
            "source with class labels (jsonl: label_key), or use another task"
        )
    notes = _synonym_notes(config, counts)
    if listed and protocol.classes is not None:
        notes += _list_notes(config, counts, protocol.classes, str(shards.folder))
    return [*notes, *candidate_notes(config, shards, counts), *_writing_notes(config, shards)]


def _list_notes(config: EvalConfig, counts: Mapping[str, int], classes: str, folder: str) -> list[str]:
    """About the list `classes`. Raises as `check_classes`."""
    found = ClassDifference.of(counts, load_class_list(classes).names)
    known = f"protocol.classes {classes}"
    if found.unknown:
        text = found.describe(config.source, known)
        if config.protocol.unknown_classes == "refuse":
            raise DataError(
                f"{text}. Name the list that the source was built with (its folder of shards is one: {folder}), or "
                "leave these items out and count them with protocol.unknown_classes=leave_out"
            )
        return [f"{text}; these items are left out and counted as failed (protocol.unknown_classes: leave_out)"]
    if found.unused:
        return [
            f"{len(found.unused):,} classes of {known} have no item in {config.source}, where they can only be wrong "
            f"answers: {shortened(found.unused)}"
        ]
    return []


def _writing_notes(config: EvalConfig, shards: ShardSet) -> list[str]:
    """About classes that the model cannot write, where its answer must contain the name."""
    run = run_of(config.model)
    folder = Path(config.model) if run is None else run.export
    if config.protocol.task not in ("open_world", "closed_world") or not changed_names(
        folder, shards.manifest.class_names
    ):
        return []
    return spelling_notes(folder, class_counts(shards, items_of(config, shards)))


def _synonym_notes(config: EvalConfig, counts: Mapping[str, int]) -> list[str]:
    """About the names in the file protocol.synonyms. Raises `DataError` if none of them is a class of the items."""
    protocol = config.protocol
    if protocol.synonyms in (None, "auto") or protocol.task not in CLASS_TASKS:
        return []
    names = load_synonyms(protocol.synonyms, protocol.classes)
    found = ClassDifference.of({name: 1 for name, others in names.items() if others}, counts)
    if not found.unknown:
        return []
    text = (
        f"{len(found.unknown):,} of {found.classes:,} names in protocol.synonyms {protocol.synonyms} are no class of "
        f"{config.source}: {shortened([*map(repr, found.unknown)])}"
    )
    if len(found.unknown) == found.classes or found.respelled:
        raise DataError(f"{text}; its classes are {shortened([*map(repr, counts)])}: give both sides one spelling")
    return [f"{text}; their synonyms are not used"]
