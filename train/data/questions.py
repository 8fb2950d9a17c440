"""The classification prompt of a run: the held-out loss uses the training prompt.

A held-out source is often a test set that other runs and evaluations share, so its shards may ask in other words
("in this photo?") than the training does ("in the photo?").
"""

from dataclasses import replace

from data_prep.prompts import CLASSIFICATION_PROMPTS, image_question
from data_prep.sample import Sample
from train.data.sources import SourceSet

QUESTIONS = frozenset(map(image_question, CLASSIFICATION_PROMPTS.values()))


def training_question(sources: SourceSet) -> str | None:
    """The classification question of the sources that are trained on, by the first record of each.

    None if no source asks one, or two ask different ones.
    """
    asked = {sample.turns[0].text for sample in _first_records(sources).values()} & QUESTIONS
    return asked.pop() if len(asked) == 1 else None


def reworded(sample: Sample, question: str) -> Sample:
    """`sample`, asked `question` if it asks a classification question; any other conversation as it is."""
    opening = sample.turns[0]
    if opening.text not in QUESTIONS or opening.text == question:
        return sample
    return replace(sample, turns=(replace(opening, text=question), *sample.turns[1:]))


def choice_notes(training: SourceSet, heldout: SourceSet) -> list[str]:
    """Held-out sources whose loss cannot choose a checkpoint, a sentence each; by the first record of each source.

    Their answer is a class name alone, and no training source answers so: with captions, the loss of a bare name rises
    while the model learns to write captions that contain it.
    """
    if any(map(_answers_with_name, _first_records(training).values())):
        return []
    return [
        f"the held-out source {name} answers with a class name alone and no training source does, so its loss may rise "
        "while the model learns; set checkpoint.keep=last and checkpoint.patience=0, and choose by accuracy: "
        "python -m eval.choose"
        for name, first in _first_records(heldout).items()
        if _answers_with_name(first)
    ]


def _first_records(sources: SourceSet) -> dict[str, Sample]:
    parts = zip(sources.names, sources.starts, sources.sizes, strict=False)
    return {name: sources.record(int(start)) for name, start, size in parts if size}


def _answers_with_name(sample: Sample) -> bool:
    return sample.label_name is not None and sample.turns[-1].text.strip() == sample.label_name
