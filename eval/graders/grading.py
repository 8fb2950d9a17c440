"""Grades the stored answers of one evaluation that have no grade yet; a kill loses no finished grade."""

import time
from collections.abc import Iterable, Iterator, Sequence

from configs.errors import UserError
from configs.eval_dir import EvalDir
from data_prep.progress import log_line, progress_bar
from eval.graders.store import describe_grading, grade_appender, read_grades, to_line, write_grading
from eval.graders.types import AskingGrader, Grade, Grader, StoredAnswer
from eval.types import Failure

WRITE_SECONDS = 0.5  # grades are written to the disk together, unless each takes longer than this
SHOWN_FAILURES = 5

Graded = tuple[StoredAnswer, Grade | Failure]


def grade_answers(name: str, grader: Grader, folder: EvalDir, answers: Sequence[StoredAnswer]) -> int:
    """Grade those of `answers` that have no grade under `name`; returns how many were graded, failures included.

    Raises `RunError` if the stored grades have other settings, or another process is writing them.
    """
    write_grading(folder, describe_grading(name, grader))
    done = read_grades(folder, name, answers).grades
    rest = [answer for answer in answers if answer.id not in done]
    if not rest:
        return 0
    failed = 0
    with grade_appender(folder, name) as appender:
        for part in _written_together(_grades(name, grader, folder, rest)):
            appender.write(to_line(answer, grade) for answer, grade in part)
            for answer, grade in part:
                if isinstance(grade, Failure):
                    failed += 1
                    if failed <= SHOWN_FAILURES:
                        log_line(f"grader {name}: failed: {answer.id}: {grade.reason}")
    return len(rest)


def _grades(name: str, grader: Grader, folder: EvalDir, answers: Sequence[StoredAnswer]) -> Iterable[Graded]:
    """The grades with a progress bar; a grader that asks an API shows its own."""
    if isinstance(grader, AskingGrader):
        return grader.grade_with_replies(answers, folder.replies(name))
    return progress_bar(grader.grade(answers), name=f"grader {name}", unit="answers", total=len(answers))


def _written_together(graded: Iterable[Graded]) -> Iterator[list[Graded]]:
    """Parts of `graded` that took about `WRITE_SECONDS`: a slow grader's grades one by one, a fast one's many."""
    part: list[Graded] = []
    start = time.monotonic()
    try:
        for one in graded:
            part.append(one)
            if time.monotonic() - start > WRITE_SECONDS:
                yield part
                part, start = [], time.monotonic()
    except UserError:  # an API that refuses further questions: what it answered is kept
        if part:
            yield part
        raise
    if part:
        yield part
