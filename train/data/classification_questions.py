"""The question that classification data was trained with, so that an evaluation asks the same."""

from collections.abc import Iterator

import numpy as np

from data_prep.prompts import prompt_name
from data_prep.sample import IMAGE_PLACEHOLDER, Sample
from data_prep.shards import ShardSet
from train.data.sources import SourceSet

LOOKED_AT = 32  # samples of a source


def classification_questions(sources: SourceSet) -> dict[str, str]:
    """Source name to its question (a prompt's name, or its text), of each source that asks one question of all images.

    Such a source has classes, and its samples are one question and one answer about an image. A source of
    conversations is not among them.
    """
    found = {}
    for name, shards in zip(sources.names, sources.sets, strict=True):
        questions = {_question(sample) for sample in _classified(shards)}
        if len(questions) == 1 and (question := questions.pop()) is not None:
            found[name] = prompt_name(question)
    return found


def trained_class_names(sources: SourceSet, questions: dict[str, str]) -> list[str]:
    """The classes of the sources in `questions`, each once, in their order."""
    sets = dict(zip(sources.names, sources.sets, strict=True))
    return list(dict.fromkeys(name for source in questions for name in sets[source].manifest.class_names if name))


def _classified(shards: ShardSet) -> Iterator[Sample]:
    """Some samples with a class, evenly spread; of a set behind a URL those of its first shard alone."""
    labels = shards.labels if shards.remote is None else shards.labels[shards.index["shard"] == 0]
    (positions,) = np.nonzero(labels >= 0)
    chosen = positions[:: max(1, len(positions) // LOOKED_AT)]
    return (shards.record(int(position)) for position in chosen)


def _question(sample: Sample) -> str | None:
    """The text of the only question; None if there are several, or no image belongs to it."""
    if [turn.speaker for turn in sample.turns] != ["human", "gpt"] or IMAGE_PLACEHOLDER not in sample.turns[0].text:
        return None
    return sample.turns[0].words
