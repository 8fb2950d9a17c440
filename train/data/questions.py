"""The classification prompt of a run: held-out losses ask in the words of training.

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
    first = (sources.record(int(start)) for start, size in zip(sources.starts, sources.sizes, strict=False) if size)
    asked = {sample.turns[0].text for sample in first} & QUESTIONS
    return asked.pop() if len(asked) == 1 else None


def reworded(sample: Sample, question: str) -> Sample:
    """`sample`, asked `question` if it asks a classification question; any other conversation as it is."""
    opening = sample.turns[0]
    if opening.text not in QUESTIONS or opening.text == question:
        return sample
    return replace(sample, turns=(replace(opening, text=question), *sample.turns[1:]))
