"""The stored answers of an evaluation: those of the items that its limit chooses, in its order."""

from configs.errors import RunError
from configs.eval_dir import EvalDir
from eval.runner.evaluation_record import Evaluation, read_evaluation
from eval.runner.predictions import Records, read_records, select_records


def evaluation_of(folder: EvalDir) -> Evaluation:
    """The evaluation whose answers are in `folder`. Raises `RunError` without one, and as `read_evaluation`."""
    evaluation = read_evaluation(folder)
    if evaluation is None:
        raise RunError(f"{folder.root} has no evaluation.json; give the folder of one model's answers")
    return evaluation


def records_of(folder: EvalDir, evaluation: Evaluation) -> Records:
    """The answers and failures in `folder` that count for `evaluation`. Raises `RunError` as `read_records`."""
    return select_records(read_records(folder), evaluation.limit, evaluation.item_draw)
