"""Trained probe: the class that the linear probe in the model gives the highest probability (`loss.probe`, C.5)."""

from eval.tasks.class_likelihood import ClassLikelihood


class TrainedProbe(ClassLikelihood):
    """The log-probabilities of the probe's classes are the stored scores; of the question, only the image is run."""

    output = "probe_scores"
