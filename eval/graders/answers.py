"""The stored answers of an evaluation as graders see them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from configs.errors import ConfigError, RunError
from configs.eval_dir import EvalDir
from configs.evaluation import EvalConfig
from data_prep.sample import Turn
from data_prep.shard_index import id_hash
from eval.graders.types import StoredAnswer
from eval.metrics.outcomes import labelled
from eval.runner.batching import open_source
from eval.runner.evaluation_record import Evaluation
from eval.runner.stored_records import records_of
from eval.tasks.registry import make_task
from eval.types import Prediction, ReferencedTask


def stored_answers(
    folder: EvalDir, evaluation: Evaluation, config: EvalConfig, *, with_questions: bool = False
) -> list[StoredAnswer]:
    """The answers in `folder` that `config` evaluates, in an order drawn from the ids.

    Raises `ConfigError` for a task whose answers cannot be graded, `RunError` if questions are wanted and the shards
    that were asked about are not on this machine.
    """
    records = records_of(folder, evaluation)
    predictions = list(records.predictions.values())
    answers = gradable(folder, predictions, evaluation, config)
    if not with_questions:
        return answers
    questions = questions_of(predictions, evaluation, config)
    return [replace(answer, question=questions[answer.id]) for answer in answers]


def gradable(
    folder: EvalDir, predictions: Sequence[Prediction], evaluation: Evaluation, config: EvalConfig
) -> list[StoredAnswer]:
    """The predictions about items with a label as graders see them, without questions.

    Raises `ConfigError` as `stored_answers`.
    """
    task = make_task(config.protocol, evaluation.answer_delimiter)
    if not isinstance(task, ReferencedTask):
        raise ConfigError(
            f"the answers of protocol.task {config.protocol.task} cannot be graded; its class needs the methods of "
            "eval.types.ReferencedTask"
        )
    task.prepare(folder, predictions)
    return [StoredAnswer(p, task.text(p), task.reference(p)) for p in labelled(task, predictions)]


def questions_of(predictions: Sequence[Prediction], evaluation: Evaluation, config: EvalConfig) -> Mapping[str, str]:
    """Item id to the text of its question, read from the shards. Raises `RunError` as `stored_answers`."""
    shards, task = open_source(config), make_task(config.protocol, evaluation.answer_delimiter)
    if shards.fingerprint != evaluation.settings["data"]:
        raise RunError(
            f"the shards of {config.source} on this machine are not those that the questions were asked about; this "
            "grader needs the questions: grade where the shards are"
        )
    numbers = shards.numbers_by_hash()
    return {p.id: _text(task.question(shards.sample(numbers[id_hash(p.id)]), p.item_index).turns) for p in predictions}


def _text(turns: Sequence[Turn]) -> str:
    """What the human says, without the image's placeholder."""
    return "\n".join(turn.words for turn in turns if turn.speaker == "human")
