"""Which stored answers are correct: by the evaluation's own protocol, or by other settings of its scoring."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from configs.errors import ConfigError, RunError
from configs.eval_dir import EvalDir
from configs.protocol import ProtocolConfig
from data_prep.run_index import read_result
from eval.metrics.grouped import ItemPoints, points_of
from eval.runner.evaluation_record import (
    file_hash,
    protocol_of,
    read_evaluation,
    scoring_setting_names,
)
from eval.runner.stored_records import evaluation_of, records_of
from eval.tasks.registry import make_task
from eval.types import LabelSetTask, Prediction, Score, Task

MAX_PRINTED_ITEMS = 3  # items in a message


@dataclass(frozen=True, slots=True)
class ItemClasses:
    """Item id to its class (None: it has none), and the fingerprint of the data that the items are from."""

    classes: Mapping[str, str | None]
    data: str

    def differs(self, other: "ItemClasses") -> str:
        """What makes the items of two evaluations not the same, in a sentence; empty if they are.

        Raises `RunError` if items of one id have different classes: an id is another image there.
        """
        if self.data == other.data:
            return ""
        both = sorted(self.classes.keys() & other.classes.keys())
        pairs = [(item, self.classes[item], other.classes[item]) for item in both]
        changed = [f"{item}: {first!r} and {second!r}" for item, first, second in pairs if first != second]
        if changed:
            raise RunError(
                f"{len(changed):,} of the {len(both):,} items with the same id have another class in the second "
                f"evaluation ({'; '.join(changed[:MAX_PRINTED_ITEMS])}); the two sources are different data or name "
                "their classes differently: evaluate both models on the same shards"
            )
        return f"the shards differ (data {self.data[:12]} and {other.data[:12]}); items are matched by their ids"


def scored_predictions(
    folder: EvalDir, predictions: Sequence[Prediction], config: ProtocolConfig, answer_delimiter: str | None
) -> list[tuple[Prediction, Score]]:
    """The answers stored in `folder`, each with its score under `config`; without items that no label fits."""
    task = make_task(config, answer_delimiter)
    task.prepare(folder, predictions)
    return [(prediction, task.score(prediction)) for prediction in labelled(task, predictions)]


def labelled(task: Task, predictions: Sequence[Prediction]) -> list[Prediction]:
    """The predictions about items with a label, each with the class that its item counts for (protocol.labels)."""
    if not isinstance(task, LabelSetTask):
        return list(predictions)
    return [task.relabelled(prediction) for prediction in predictions if task.labels_of(prediction)]


def read_points(folder: EvalDir, changes: Mapping[str, Any] | None = None) -> dict[str, ItemPoints]:
    """Item id to the points of its answer by the scoring settings of the folder's report, updated by `changes`.

    A missing answer has none. Raises as `read_scored`.
    """
    _, scored = read_scored(folder, changes)
    return points_of(scored)


def read_scored(
    folder: EvalDir, changes: Mapping[str, Any] | None = None
) -> tuple[ProtocolConfig, list[tuple[Prediction, Score]]]:
    """The protocol of the folder's report, updated by `changes`, and the stored answers with their scores under it.

    The folder of a rescored report refers to the folder of the answers. Raises `RunError` if there is no evaluation, or
    a file that it was scored by has changed, `ConfigError` for a change that needs other answers.
    """
    answers, settings = answers_and_settings(folder)
    evaluation = read_evaluation(answers)
    if evaluation is None:
        raise RunError(
            f"{answers.root} has no evaluation.json; give the folder of one model's answers, or of a rescored report"
        )
    settings = settings or evaluation.settings
    _refuse_changed_files(settings, changes or {})
    known = scoring_setting_names(str(settings["task"]))
    if other := [key for key in changes or () if key not in known]:
        raise ConfigError(
            f"protocol.{other[0]} needs other answers; stored answers can be rescored with {', '.join(known)}"
        )
    protocol = protocol_of({**settings, **(changes or {})})
    predictions = list(records_of(answers, evaluation).predictions.values())
    return protocol, scored_predictions(answers, predictions, protocol, evaluation.answer_delimiter)


def _refuse_changed_files(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> None:
    """Raise `RunError` if a file that `settings` name, and `changes` do not, is another than that of the report."""
    for key in ("synonyms", "labels"):
        stored = settings.get(f"{key}_sha256")
        if key not in changes and stored is not None and stored != file_hash(settings.get(key)):
            raise RunError(
                f"protocol.{key} is {settings.get(key)}, a file that is gone or has changed since the report was made; "
                "restore it, or make the report again with eval.run --report-only"
            )


def read_items(folder: EvalDir) -> ItemClasses:
    """The items that are answered in `folder`, by their classes; a rescored report refers to its answers' folder.

    Raises `RunError` if there is no evaluation.
    """
    answers, _ = answers_and_settings(folder)
    evaluation = evaluation_of(answers)
    predictions = records_of(answers, evaluation).predictions
    classes = {key: prediction.label_name for key, prediction in predictions.items()}
    return ItemClasses(classes, str(evaluation.generation_settings["data"]))


def answers_and_settings(folder: EvalDir) -> tuple[EvalDir, Mapping[str, Any]]:
    """(folder of the answers, scoring settings of a rescored report; none where answers and report share a folder)."""
    if folder.config.is_file() or not folder.report("json").is_file():
        return folder, {}
    report = read_result(folder.report("json"))
    if "answers_of" not in report:
        return folder, {}
    return EvalDir(folder.root / report["answers_of"]), report["protocol"]
