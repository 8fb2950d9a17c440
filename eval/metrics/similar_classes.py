"""Similar classes from the stored cosines of a zero-shot evaluation."""

from collections.abc import Mapping, Sequence

import numpy as np

from configs.errors import RunError
from configs.eval_dir import EvalDir
from data_prep.class_matching import shortened
from eval.class_scores.neighbours import Neighbours, neighbours_by_class, neighbours_by_image
from eval.class_scores.table import decode_scores, read_class_scores
from eval.runner.stored_records import evaluation_of, records_of


def similar_classes(folder: EvalDir, by: str, keep: int) -> Neighbours:
    """The `keep` classes most similar to each class or image of the evaluation in `folder`.

    Raises `RunError` if it is no zero-shot evaluation, or not all of its items are answered: the file would depend on
    where it was interrupted.
    """
    evaluation = evaluation_of(folder)
    task = evaluation.generation_settings.get("task")
    if task != "zero_shot":
        raise RunError(f"{folder.root} holds answers of task {task}; cosines are stored by task zero_shot only")
    records = records_of(folder, evaluation)
    predictions = [p for p in records.predictions.values() if p.scores is not None]
    done = len(predictions) + len(records.failures)
    if done < evaluation.items or not predictions:
        raise RunError(
            f"{folder.root} has answers to {len(predictions):,} of {evaluation.items:,} items; run the same evaluation "
            "again: it continues where it stopped"
        )
    names = read_class_scores(folder).names
    predictions.sort(key=lambda prediction: prediction.id)
    items = [(prediction.id, prediction.target) for prediction in predictions]
    cosines = np.stack([decode_scores(prediction.scores or "") for prediction in predictions])
    compute = neighbours_by_class if by == "class" else neighbours_by_image
    settings = evaluation.generation_settings
    of = {
        "evaluation": evaluation.name,
        "model": evaluation.model,
        "weights": settings["model"],
        "source": evaluation.source,
        "data": settings["data"],
        "class_sentence": settings["class_sentence"],
        "items": len(items),
    }
    return Neighbours(by, names, compute(names, items, cosines, keep), of)


def as_text(found: Neighbours, shown: Mapping[str, Sequence[str]]) -> str:
    """What the file holds, and the most similar classes of its first entries."""
    if found.by == "siblings":
        alone = [name for name in dict.fromkeys(found.classes) if not found.neighbours.get(name)]
        lines = [f"siblings of {len(found.neighbours) - len(alone):,} classes in the tree {found.of['tree']}"]
        lines += [f"  {key}: {', '.join(names)}" for key, names in shown.items() if names]
        return "\n".join([*lines, *([f"without siblings: {shortened(alone)}"] if alone else [])])
    what = "classes" if found.by == "class" else "images"
    number, items = len(found.neighbours), found.of["items"]
    lines = [f"classes similar to {number:,} {what}, by the cosines of {items:,} items of {found.of['source']}"]
    lines += [f"  {key}: {', '.join(names)}" for key, names in shown.items()]
    return "\n".join([*lines, *(["  ..."] if len(shown) < len(found.neighbours) else [])])
