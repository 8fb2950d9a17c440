"""What the graders of an evaluation found: the entry `grades` of report.json, one for each grader.

Grades stand next to the protocol's score and never replace it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from configs.errors import ConfigError
from configs.eval_dir import EvalDir
from configs.evaluation import EvalConfig
from eval.graders.answers import gradable
from eval.graders.store import Grading, StoredGrades, read_grades, read_grading
from eval.graders.types import RIGHT
from eval.metrics.accuracy import Rate
from eval.metrics.capabilities import GradedAnswer, capability_tables, gradings_of
from eval.metrics.grades import agreement, mean_with_interval
from eval.runner.evaluation_record import Evaluation
from eval.types import Prediction, Score

EXAMPLES = 4  # answers of each outcome that a report quotes


def grade_results(
    folder: EvalDir,
    evaluation: Evaluation,
    config: EvalConfig,
    predictions: Sequence[Prediction],
    scored: Sequence[tuple[Prediction, Score]],
) -> list[dict[str, Any]]:
    """An entry for each grader with grades in `folder`; grades of other answers than those `scored` do not count.

    `predictions` are all answers, also to images without a label. Raises `RunError` for damaged grades.
    """
    names = folder.graders()
    if not names or not scored:
        return []
    try:
        answers = gradable(folder, predictions, evaluation, config)
    except ConfigError:  # grades of a task that is no longer gradable
        return []
    correct = {prediction.id: score.value is True for prediction, score in scored}
    by_rule = any(score.value is not None for _, score in scored)
    found = []
    for name in names:
        grading = read_grading(folder, name)
        assert grading is not None
        grades = read_grades(folder, name, answers)
        entry = _entry(grading, grades, correct)
        entry["agreement"] = entry["agreement"] if by_rule else None
        entry |= {"examples": _examples(grading, grades, answers)}
        capabilities = _capabilities(grades, [prediction for prediction, _ in scored])
        if capabilities is not None:  # its interval is over images, which several questions share
            entry["mean_score"] = capabilities["total"]
        found.append(entry | {"capabilities": capabilities})
    return found


def item_grades(
    folder: EvalDir, evaluation: Evaluation, config: EvalConfig, predictions: Sequence[Prediction]
) -> dict[str, list[tuple[str, str]]]:
    """Item id to (grader, its grade or failure in words), in the order of the graders; `predictions` are all answers.

    Raises `RunError` for damaged grades.
    """
    names = folder.graders()
    try:
        answers = gradable(folder, predictions, evaluation, config) if names else []
    except ConfigError:
        return {}
    found: dict[str, list[tuple[str, str]]] = {}
    for name in names:
        stored = read_grades(folder, name, answers)
        for item, grade in stored.grades.items():
            parts = [grade.outcome, None if grade.score is None else f"{grade.score:.2f}"]
            found.setdefault(item, []).append((f"grader {name}", ", ".join(filter(None, parts))))
        for item, reason in stored.failures.items():
            found.setdefault(item, []).append((f"grader {name}", f"failed: {reason}"))
    return found


def _capabilities(stored: StoredGrades, predictions: Sequence[Prediction]) -> dict[str, Any] | None:
    """Means by capability, of a task whose questions name them (`references`) and a grader that gives numbers."""
    answers = [
        GradedAnswer(gradings_of(grade.extracted, grade.score), p.references, p.group or p.id)
        for p in predictions
        if (grade := stored.grades.get(p.id)) is not None and grade.score is not None and p.references
    ]
    return capability_tables(answers) if answers else None


def _entry(grading: Grading, stored: StoredGrades, correct: Mapping[str, bool]) -> dict[str, Any]:
    grades = stored.grades
    n = len(grades)
    outcomes = {
        outcome: Rate(sum(grade.outcome == outcome for grade in grades.values()), n).to_json()
        for outcome in grading.outcomes
    }
    flags = sorted({flag for grade in grades.values() for flag in grade.flags})
    scores = [grade.score for grade in grades.values() if grade.score is not None]
    right = {item: grade.outcome == RIGHT for item, grade in grades.items()}
    return {
        "grader": grading.grader,
        "about": grading.about,
        "settings": dict(grading.settings),
        "items": {
            "answers": len(correct),
            "graded": n,
            "failed": len(stored.failures),
            "missing": len(correct) - n - len(stored.failures),
            "stale": stored.stale,
        },
        "accuracy": outcomes.get(RIGHT),
        "outcomes": outcomes,
        "flags": {flag: Rate(sum(flag in g.flags for g in grades.values()), n).to_json() for flag in flags},
        "mean_score": mean_with_interval(scores) if scores else None,
        "agreement": agreement(right, correct) if grading.outcomes and n else None,
        "failures": [{"id": item, "reason": reason} for item, reason in stored.failures.items()],
    }


def _examples(grading: Grading, stored: StoredGrades, answers: Sequence[Any]) -> list[dict[str, Any]]:
    """The first few answers of each outcome, in the order of `answers`, which is drawn from the ids."""
    examples = []
    for outcome in grading.outcomes or (None,):
        chosen = [answer for answer in answers if answer.id in stored.grades]
        chosen = [answer for answer in chosen if stored.grades[answer.id].outcome == outcome][:EXAMPLES]
        for answer in chosen:
            grade = stored.grades[answer.id]
            values = {"id": answer.id, "target": answer.reference.target, "answer": answer.text}
            examples.append(
                values | {"outcome": outcome, "score": grade.score, "extracted": grade.extracted, "why": grade.why}
            )
    return examples
