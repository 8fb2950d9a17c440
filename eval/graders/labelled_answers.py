"""Answers with a person's label: what a judge or a rule is measured by.

A line: {"target": "beagle", "names": [], "answer": "A dog.", "label": "too general", "kind": "general"}. `names` are
further accepted names, `kind` says what is tried, and `question` may be given. The shipped file has 70 answers, written
and labelled by hand: synonyms that are in no list, answers that are too general or more specific, other classes whose
name contains the right one, negations, several names, and none.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from configs.errors import DataError
from data_prep.prompts import classification_prompt
from eval.graders.llm_judge import OUTCOMES
from eval.graders.types import StoredAnswer
from eval.types import Prediction, Reference

SHIPPED = Path(__file__).with_name("labelled_answers.jsonl")


@dataclass(frozen=True, slots=True)
class LabelledAnswer:
    """An answer as graders see it, the outcome that a person gave it, and what kind of answer it is."""

    answer: StoredAnswer
    label: str
    kind: str


def read_labelled(path: Path = SHIPPED) -> list[LabelledAnswer]:
    """The answers of a file, in its order. Raises `DataError` that names the line of a malformed one."""
    if not path.is_file():
        raise DataError(f"no file {path} of labelled answers")
    found = []
    for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
            target, text, label = (str(values[key]) for key in ("target", "answer", "label"))
            others = values.get("names") or []
            if not isinstance(others, list):
                raise TypeError(f"names is {others!r}, not a list")
            names = tuple(dict.fromkeys((target, *map(str, others))))
            question = str(values.get("question") or classification_prompt("paper"))
            kind = str(values.get("kind") or "")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{path}, line {number} is no labelled answer ({type(error).__name__} {error})") from error
        if label not in OUTCOMES:
            raise DataError(f"{path}, line {number} has the label {label!r}; choose one of {', '.join(OUTCOMES)}")
        found.append(LabelledAnswer(_stored(number, Reference(target, names), text, question), label, kind))
    if not found:
        raise DataError(f"{path} has no labelled answer")
    return found


def _stored(number: int, reference: Reference, text: str, question: str) -> StoredAnswer:
    prediction = Prediction(
        id=f"line-{number}",
        prompt_hash="",
        target=reference.target,
        label=None,
        label_name=reference.target,
        answer=text,
        num_tokens=0,
        stopped=True,
        seconds=0.0,
    )
    return StoredAnswer(prediction, text, reference, question)


def texts_of(answers: Sequence[LabelledAnswer]) -> list[StoredAnswer]:
    """The answers alone."""
    return [answer.answer for answer in answers]
