"""Stored grades: one JSON line per answer in grades-NAME.jsonl, the grader's identity in grades-NAME.json.

    {"id": "n01440764/n01440764_18", "answer": "5d41402abc4b2a76", "outcome": "right", "why": "...", "score": 0.91}
    {"id": "n01440764/n01440764_31", "answer": "0cc175b9c0f1b6a8", "failed": "timed out"}

`answer` is the digest of what was graded. A grade of another answer, or of the same answer to other expected names or
among other classes, does not count: the answer is graded again. Lines are only ever appended; of two grades of one
answer the last counts.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from configs.errors import RunError
from configs.eval_dir import EvalDir
from data_prep.atomic import write_json
from data_prep.line_file import LineAppender, complete_lines, json_line
from eval.graders.types import Grade, Grader, StoredAnswer
from eval.runner.changed_settings import changed_settings
from eval.types import Failure

FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class Grading:
    """The content of grades-NAME.json: which grader, with which settings, gave the grades."""

    grader: str
    about: str
    outcomes: Sequence[str]
    settings: Mapping[str, Any]
    format_version: int = FORMAT_VERSION


def describe_grading(name: str, grader: Grader) -> Grading:
    """The identity of the grades that `grader` gives under `name`, as it is read back from JSON."""
    made = Grading(name, grader.about, list(grader.outcomes), grader.settings)
    return Grading(**json.loads(json.dumps(asdict(made))))


def read_grading(folder: EvalDir, name: str) -> Grading | None:
    """The identity of the grades stored under `name`; None if there are none. Raises `RunError` if it is damaged."""
    path = folder.grading(name)
    if not path.is_file():
        if folder.grades(name).is_file():
            raise RunError(
                f"{folder.grades(name)} has no {path.name} next to it, which says how the answers were graded; restore "
                "the file from a copy, or delete the grades to grade again"
            )
        return None
    try:
        grading = Grading(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise RunError(
            f"{path} is damaged ({error}); restore it from a copy, or delete it and {folder.grades(name).name} to "
            "grade again"
        ) from error
    if grading.format_version != FORMAT_VERSION:
        raise RunError(
            f"{path} has format version {grading.format_version}, this program writes {FORMAT_VERSION}; delete it and "
            f"{folder.grades(name).name} to grade again"
        )
    return grading


def write_grading(folder: EvalDir, wanted: Grading) -> None:
    """Write grades-NAME.json. Raises `RunError` as `check_grading`."""
    check_grading(folder, wanted)
    if read_grading(folder, wanted.grader) != wanted:
        write_json(folder.grading(wanted.grader), asdict(wanted))


def check_grading(folder: EvalDir, wanted: Grading) -> None:
    """Raise `RunError`, naming each difference, if the grades stored under this name have other settings."""
    present = read_grading(folder, wanted.grader)
    if present is not None and present.settings != wanted.settings:
        changed = changed_settings(present.settings, wanted.settings)
        kind = wanted.grader.partition("@")[0]
        raise RunError(
            f"{folder.grades(wanted.grader)} holds grades by other settings: {'; '.join(changed)}. Grade under another "
            f"name with --grader {kind}@LABEL, or delete {folder.grading(wanted.grader).name} and "
            f"{folder.grades(wanted.grader).name} to grade again"
        )


@dataclass(frozen=True, slots=True)
class StoredGrades:
    """The grades and failures of the present answers, by item id; `stale` counts grades of other answers."""

    grades: Mapping[str, Grade]
    failures: Mapping[str, str]
    stale: int = 0


def read_grades(folder: EvalDir, name: str, answers: Iterable[StoredAnswer]) -> StoredGrades:
    """The grades stored under `name` of `answers`; a torn last line is left out.

    Raises `RunError` that names file and line if a complete line is not a grade.
    """
    wanted = {answer.id: answer.digest for answer in answers}
    grades: dict[str, Grade] = {}
    failures: dict[str, str] = {}
    stale = set()
    path = folder.grades(name)
    for number, line in complete_lines(path) if path.is_file() else ():
        try:
            values = json.loads(line.decode())
            item, digest, failed = values.pop("id"), values.pop("answer"), values.pop("failed", None)
            grade = (
                None
                if failed is not None
                else Grade(**{"outcome": None} | values | {"flags": tuple(values.get("flags", ()))})
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RunError(
                f"{path}, line {number} is not a grade ({error}); delete the line to grade its answer again"
            ) from error
        if wanted.get(item) != digest:
            stale |= {item} & wanted.keys()
        elif grade is None:
            failures[item] = str(failed)
        else:
            grades[item] = grade
    failures = {item: reason for item, reason in failures.items() if item not in grades}
    return StoredGrades(grades, failures, len(stale - grades.keys()))


def grade_appender(folder: EvalDir, name: str) -> LineAppender:
    """Opens the file of grades for appending `to_line`. Raises `RunError` if another process is writing it."""
    return LineAppender(folder.grades(name), "wait for it, or give these grades another name: --grader NAME@LABEL")


def to_line(answer: StoredAnswer, grade: Grade | Failure) -> str:
    """The grade as one line of JSON, with its line end."""
    values: dict[str, Any] = {"id": answer.id, "answer": answer.digest}
    if isinstance(grade, Failure):
        values["failed"] = grade.reason
    else:
        values |= {key: value for key, value in asdict(grade).items() if key == "outcome" or value not in (None, ())}
    return json_line(values)
