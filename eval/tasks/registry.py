"""The tasks: the question about an item, the model output that is scored, and the scorer.

A task is one class in one file, an `eval.types.Task`; adding one is that file and one line here:

    class MyTask:
        output = "text"                                           # what the model must return, see OUTPUTS

        def __init__(self, config: ProtocolConfig): ...
        def question(self, sample, item_index=None) -> Question: ...
        def prepare(self, folder, predictions) -> None: ...       # where a score depends on other answers
        def score(self, prediction) -> Score: ...

`protocol.task` names it. A task sees no model and a scorer sees no item, so task, model and scorer combine freely.
"""

from dataclasses import replace
from importlib import import_module
from typing import Protocol

from configs.errors import ConfigError
from configs.protocol import ProtocolConfig
from configs.trained import protocol_as_trained
from eval.tasks.scored_text import OFFICIAL
from eval.types import Task

TASKS = {
    "open_world": "eval.tasks.open_world:OpenWorld",
    "closed_world": "eval.tasks.closed_world:ClosedWorld",
    "class_likelihood": "eval.tasks.class_likelihood:ClassLikelihood",
    "zero_shot": "eval.tasks.zero_shot:ZeroShot",
    "trained_probe": "eval.tasks.trained_probe:TrainedProbe",
    "multiple_choice": "eval.tasks.multiple_choice:MultipleChoice",
    "vqa": "eval.tasks.vqa:VisualQuestions",
    "yes_no": "eval.tasks.yes_no:YesNo",
    "graded": "eval.tasks.graded:Graded",
    "hidden_states": "eval.tasks.hidden_states:HiddenStates",
}
"""`protocol.task` to the class that implements it."""

OUTPUTS = {
    "text": "generated text",
    "class_likelihoods": "the log-likelihood of every class name as the answer",
    "similarities": "the cosine between the image and each class's sentence",
    "probe_scores": "the log-probability of every class by a linear probe that was trained with the model",
    "hidden_states": "hidden states at chosen token positions",
}
"""What a task can ask of a model; each model says which of these it returns."""


class TaskClass(Protocol):
    """A class that implements `eval.types.Task`."""

    output: str

    def __call__(self, config: ProtocolConfig) -> Task:
        """The task under `config`."""
        ...


def make_task(config: ProtocolConfig, answer_delimiter: str | None = None) -> Task:
    """The task that `config` describes.

    `answer_delimiter` is what answer_after `official` means for the evaluated model ("": nothing); without it such a
    protocol asks and does not score. Raises `ConfigError` or `DataError` for an unknown task, scorer, prompt or file.
    """
    if config.answer_after == OFFICIAL and answer_delimiter is not None:
        config = replace(config, answer_after=answer_delimiter or None)
    return _find(config.task)(protocol_as_trained(config, None))


def task_output(task: str) -> str:
    """Which of `OUTPUTS` the task `task` scores. Raises `ConfigError` for an unknown task."""
    return _find(task).output


def _find(task: str) -> TaskClass:
    if task not in TASKS:
        raise ConfigError(f"protocol.task is {task!r}; choose one of: {', '.join(TASKS)}")
    module, _, name = TASKS[task].partition(":")
    made: TaskClass = getattr(import_module(module), name)
    return made
