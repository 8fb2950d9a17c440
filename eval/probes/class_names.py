"""Classes of a probe: those of the test source are matched by name to those that the heads are trained on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from configs.errors import ConfigError, DataError
from configs.evaluation import EvalConfig
from configs.words import counted
from data_prep.class_matching import ClassDifference, class_counts, indices_by_name, shortened
from data_prep.shards import ShardSet
from eval.probes.store import StoredStates
from eval.runner.batching import open_source_named


@dataclass(frozen=True, slots=True)
class ProbeClasses:
    """`names` are the training source's classes; class i of the test source has index `indices[i]` there, or -1.

    `unknown` maps classes that are left out to their numbers of test items; `notes` say what a reader of the accuracy
    must know.
    """

    names: tuple[str, ...]
    indices: Sequence[int]
    unknown: Mapping[str, int]
    notes: tuple[str, ...]

    def relabel(self, test: StoredStates) -> StoredStates:
        """The test items with the training source's class indices; items of unknown classes are left out."""
        return test.relabelled(torch.tensor(self.indices, dtype=torch.long)[test.labels])


def match_test_classes(config: EvalConfig) -> ProbeClasses:
    """The classes of `config.source` among those of `config.probe_source`.

    Raises `DataError` for a source without classes, for a name that two classes have, and for test items of classes
    without a training item, unless protocol.unknown_classes is `leave_out`.
    """
    if config.probe_source is None:
        raise ConfigError("probe_source is not set; name the source of data.sources that heads learn from, or --train")
    train, test = (open_source_named(config, name) for name in (config.probe_source, config.source))
    names, known = test.manifest.class_names, _trained(config.probe_source, train)
    indices = indices_by_name(names, train.manifest.class_names)
    indices = [index if name in known else -1 for name, index in zip(names, indices, strict=True)]
    counts = class_counts(test)
    found = ClassDifference.of(counts, known)
    notes = []
    if found.unknown:
        text = found.describe(config.source, f"the training source {config.probe_source}")
        if config.protocol.unknown_classes == "refuse" or len(found.unknown) == found.classes:
            raise DataError(
                f"{text}. A head cannot predict a class that it was not trained on: add these classes to "
                f"{config.probe_source}, or leave their items out and count them with "
                "protocol.unknown_classes=leave_out"
            )
        notes.append(f"{text}; these items are left out (protocol.unknown_classes: leave_out)")
    elif found.unused:
        notes.append(
            f"{config.source} has items of {found.classes:,} of the {len(known):,} classes of {config.probe_source}; "
            f"it has none of {shortened(found.unused)}"
        )
    return ProbeClasses(train.manifest.class_names, indices, found.unknown, tuple(notes))


def _trained(name: str, shards: ShardSet) -> list[str]:
    """The classes that have a training item. Raises `DataError` if there are fewer than two."""
    found = [label for label, count in class_counts(shards).items() if count]
    if len(found) < 2:
        raise DataError(
            f"source {name} has items of {counted(len(found), 'class')} ({', '.join(found) or 'none'}); a linear probe "
            "needs at least 2 to tell apart"
        )
    return found
