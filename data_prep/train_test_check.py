"""Are training and test sources consistent? Compares their classes by name, and images that are in both, byte for byte.

Cheap: manifests and hashes of images, which the build stores; no image is read. `data_prep.overlap` also finds
images that were compressed or resized again.
"""

import json
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from configs.data import DataConfig
from configs.errors import UserError
from configs.evaluation import EvalConfig
from configs.run import RunConfig
from configs.trained import load_evaluation_of
from configs.words import counted
from data_prep.class_matching import ClassDifference, class_counts, shortened
from data_prep.class_names import alike_names
from data_prep.sample import sample_name
from data_prep.shards import ShardSet


@dataclass(frozen=True, slots=True)
class SourceContent:
    """What is compared of a source.

    `counts` maps its class names to numbers of samples. `images` [N] is the `image_hash` of each sample (0: no
    image), `classes` [N] is the class name of each sample ("": none) and `id_of` the id of sample n, with the file of
    a listed image. Without stored hashes `images` is None. `folder` is that of a built set.
    """

    name: str
    counts: Mapping[str, int]
    images: NDArray[np.uint64] | None
    classes: NDArray[np.object_]
    id_of: Callable[[int], str]
    folder: Path | None = None

    @classmethod
    def of(cls, name: str, shards: ShardSet) -> "SourceContent":
        """The content of a built set."""
        names = np.array([*shards.manifest.class_names, ""], dtype=object)
        return cls(
            name=name,
            counts=class_counts(shards) if shards.manifest.class_names else {},
            images=shards.image_hashes(),
            classes=names[shards.labels],
            id_of=lambda number: sample_name(shards.record(number)),
            folder=shards.folder,
        )


def mismatch_warnings(
    training: Sequence[SourceContent], tests: Sequence[SourceContent], *, classes: bool = True
) -> list[str]:
    """Mismatches between the training sources and each test source, one sentence each; usually none.

    Without `classes` only images are compared.
    """
    notes = _spelling_notes(training) if classes else []
    for test in tests:
        notes += _class_notes(training, test) if classes else []
        for train in training:
            if train.name == test.name:
                notes.append(f"{test.name} is used for training and for testing")
            else:
                notes += _image_notes(train, test)
    return notes


def _spelling_notes(training: Sequence[SourceContent]) -> list[str]:
    """Whether training sources name one class in several spellings, each of which a model learns to answer."""
    named = {name: train.name for train in training for name, count in train.counts.items() if count}
    alike = [f"{name!r} ({named[name]})" for name in alike_names(named)]
    return [f"training sources spell one class differently: {shortened(alike)}"] if alike else []


def _class_notes(training: Sequence[SourceContent], test: SourceContent) -> list[str]:
    """Classes of the test source that no training source has items of, and the reverse."""
    known: dict[str, int] = {}
    for train in training:
        for name, count in train.counts.items():
            known[name] = known.get(name, 0) + count
    trained = [name for name, count in known.items() if count]
    if not trained or not any(test.counts.values()):
        return []
    difference = ClassDifference.of(test.counts, trained)
    where = " and ".join(train.name for train in training if train.counts)
    if len(difference.unknown) == difference.classes and not difference.respelled:
        return [f"no class of {test.name} is a class of the training source {where}"]
    if difference.unknown:
        return [difference.describe(test.name, f"the training source {where}")]
    if difference.unused:
        return [f"{test.name} has no item of {len(difference.unused):,} of the {len(trained):,} classes of {where}"]
    return []


def _image_notes(train: SourceContent, test: SourceContent) -> list[str]:
    """How many images of the test source are also in the training source, and with another class."""
    if train.images is None or test.images is None:
        return [
            f"whether images of {test.name} are also in {train.name} was not checked: hashes are not stored; build "
            "both again"
        ]
    (found,) = np.nonzero(np.isin(test.images, train.images) & (test.images > 0))
    if not len(found):
        return []
    order = np.argsort(train.images, kind="stable")
    twins = order[np.searchsorted(train.images[order], test.images[found])]
    relabelled = int((train.classes[twins] != test.classes[found]).sum()) if train.counts and test.counts else 0
    total = int((test.images > 0).sum())
    text = f"{len(found):,} of {total:,} images of {test.name} are also in the training source {train.name}"
    if relabelled:
        text += f", {relabelled:,} of them with another class"
    text += f", such as {test.id_of(int(found[0]))} = {train.id_of(int(twins[0]))}"
    if len(found) == total:
        return [f"{text}; are both the same data?"]
    if train.folder is None or test.folder is None:
        return [text]
    return [f"{text}; all: {_overlap_command(train.folder, test.folder)}"]


def _overlap_command(training: Path, evaluation: Path) -> str:
    return f"python -m data_prep.overlap {shlex.join([str(training), str(evaluation)])}"


def conflict_notes(source: SourceContent) -> list[str]:
    """A sentence if images of a source occur under several of its classes, byte for byte."""
    if source.images is None or not any(source.counts.values()):
        return []
    order = np.argsort(source.images, kind="stable")
    images, classes = source.images[order], source.classes[order]
    (pairs,) = np.nonzero((images[1:] == images[:-1]) & (images[1:] > 0) & (classes[1:] != classes[:-1]))
    if not len(pairs):
        return []
    first, second = (source.id_of(int(order[pairs[0] + n])) for n in (0, 1))
    count = len(np.unique(images[pairs]))
    found = f"{counted(count, 'image')} of {source.name} {'is' if count == 1 else 'are'}"
    text = f"{found} in several of its classes, such as {first} = {second}"
    return [text if source.folder is None else f"{text}; all: {_overlap_command(source.folder, source.folder)}"]


def same_paths(data: DataConfig, training: Sequence[str], tests: Sequence[str]) -> list[str]:
    """Test sources that read what a training source reads: same reader, path and options."""
    notes = []
    for test in tests:
        for train in training:
            first, second = data.sources[train], data.sources[test]
            if train == test or first.path is None or second.path is None:
                continue
            paths = {str(Path(source.path or "").expanduser().resolve()) for source in (first, second)}
            options = {json.dumps(dict(source.options), sort_keys=True) for source in (first, second)}
            if first.reader == second.reader and len(paths) == len(options) == 1:
                notes.append(f"the sources {train} and {test} read the same data: {first.path}")
    return notes


def source_roles(config: RunConfig | EvalConfig) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(training sources, test sources) of a config; those of a run are held out, or of its evaluations.

    What a run neither trains on nor tests on, such as the source that its few-shot or captioned source is made of, may
    share images with both. Of a run that names no test source, all that it does not train on are test sources.
    """
    if isinstance(config, RunConfig):
        training, sources = config.train.sources, config.data.sources
        named = [name for name in (*config.train.heldout, *_sources_of_evaluations(config)) if name in sources]
        return training, tuple(dict.fromkeys(named)) or tuple(name for name in sources if name not in training)
    counted = () if config.frequency_file else config.frequency_sources
    probed = (config.probe_source,) if config.probe_source else ()
    return tuple(dict.fromkeys((*probed, *counted))), (config.source,)


def _sources_of_evaluations(config: RunConfig) -> Iterator[str]:
    """The test sources of `evaluate`; an evaluation that cannot be loaded has none, and its own program says why."""
    for path in config.evaluate:
        with suppress(UserError):
            yield load_evaluation_of(Path(path), config)[0].source
