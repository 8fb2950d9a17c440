"""Grades the answers of one or several models, and writes their reports again."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from configs.eval_dir import EvalDir
from configs.evaluation import EvalConfig
from eval.graders.answers import stored_answers
from eval.graders.grading import grade_answers
from eval.graders.registry import make_grader
from eval.graders.store import check_grading, describe_grading, read_grades
from eval.graders.types import AskingGrader
from eval.paper.comparison import comparison_with
from eval.reports.evaluation import write_report
from eval.runner.batching import check_described
from eval.runner.evaluation_record import with_scoring
from eval.runner.weights import check_weights


def grade_folders(config: EvalConfig, names: Sequence[str], folders: Sequence[EvalDir]) -> list[dict[str, Any]]:
    """Apply the graders `names` to the answers in `folders`; returns the content of each report.json.

    Raises `RunError` if answers are those of other questions or weights, or grades those of other settings.
    """
    check_described(config)
    graders = {name: make_grader(name, config) for name in names}
    reports = []
    for folder in folders:
        check_weights(config, folder)
        evaluation = with_scoring(folder, config)
        for name, grader in graders.items():
            answers = stored_answers(folder, evaluation, config, with_questions=grader.uses_question)
            grade_answers(name, grader, folder, answers)
        reports.append(write_report(folder, config, comparison_with(config.paper_row)))
    return reports


def plan_of(config: EvalConfig, names: Sequence[str], folders: Sequence[EvalDir]) -> list[dict[str, Any]]:
    """For each grader and folder, how many answers have a grade and how many there are.

    What a grader that asks an API would spend at most is printed at once.
    """
    plan = []
    for folder in folders:
        for name in names:
            grader = make_grader(name, config)
            asks = isinstance(grader, AskingGrader)
            answers = stored_answers(folder, with_scoring(folder, config), config, with_questions=asks)
            check_grading(folder, describe_grading(name, grader))
            grades = read_grades(folder, name, answers).grades
            values = {"answers": len(answers), "graded": len(grades), "about": grader.about}
            if isinstance(grader, AskingGrader):
                left = [answer for answer in answers if answer.id not in grades]
                spending = grader.preview(left, folder.replies(name))
                values["spending"] = None if spending is None else asdict(spending)
            plan.append({"folder": str(folder.root), "grader": name, **values})
    return plan


def plan_text(plan: Sequence[Mapping[str, Any]]) -> str:
    """Two lines for each grader and folder."""
    lines = [
        f"{one['folder']}\n"
        f"  {one['grader']}: {one['graded']:,} of {one['answers']:,} answers have a grade; {one['about']}"
        for one in plan
    ]
    return "\n".join(lines)
