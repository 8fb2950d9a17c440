"""Questions in the reply of a model: the four fields of Figure 8's prompt, found in whatever form the reply has.

Read: JSON alone, in a markdown fence, or between sentences; a list, an object around it, one object a question; after
a reasoning; and the whole questions of a reply that was cut off. An answer is an index from 0, a letter, or the text of
a choice. A question that cannot be used is left out, with the reason.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from data_prep.final_answer import final_answer
from data_prep.lettered_options import LETTERS, find_options
from data_prep.readers.imagewikiqa import question_text
from data_prep.readers.json_text import text_in

CHOICES = 4  # of a question (Section 4.2)
COMMA_BEFORE_END = re.compile(r",\s*([\]}])")
FIELDS = {
    "question": ("question", "Question"),
    "choices": ("choices", "options", "Choices", "Options"),
    "answer": ("answer", "correct_answer", "answer_index", "Answer"),
    "reference": ("reference", "references", "Reference"),
}
"""Field to the spellings that are read."""


@dataclass(frozen=True, slots=True)
class GeneratedQuestion:
    """A question about "this object", its choices, the index of the right one, and the sentence that answers it."""

    question: str
    choices: tuple[str, ...]
    answer: int
    reference: str


@dataclass(frozen=True, slots=True)
class ParsedReply:
    """The usable questions of a reply in their order, and one reason for each part that is not usable."""

    questions: tuple[GeneratedQuestion, ...]
    faults: tuple[str, ...]


class _Fault(Exception):
    """Why a question cannot be used."""


@cache
def parse_reply(reply: str, wanted: int) -> ParsedReply:
    """The first `wanted` usable questions of a model's reply; fewer than that is a fault, too.

    >>> parse_reply('[{"question": "Where?", "choices": ["a", "b", "c", "d"], "answer": 1}]', 1).questions[0].answer
    1
    """
    text = final_answer(reply)
    values = list(_json_values(text or ""))
    questions: dict[str, GeneratedQuestion] = {}
    faults: list[str] = []
    for fields in _question_objects(values):
        try:
            question = _question_of(fields)
            if _folded(question.question) in questions:
                raise _Fault("repeated question")
        except _Fault as fault:
            faults.append(str(fault))
            continue
        questions[_folded(question.question)] = question
    if not questions and not faults:
        faults.append(
            "reply ends in its reasoning" if text is None else "no question in JSON" if text else "empty reply"
        )
    elif len(questions) + len(faults) < wanted:
        faults.append(f"too few questions: {len(questions) + len(faults)} in place of {wanted}")
    return ParsedReply(tuple(questions.values())[:wanted], tuple(faults))


def _json_values(text: str) -> Iterator[Any]:
    """Every JSON object and list in a text, outermost first; of one that is cut off, the whole ones inside it."""
    decoder = json.JSONDecoder(strict=False)  # line ends within texts are read
    for repaired in (text, COMMA_BEFORE_END.sub(r"\1", text)):
        found = False
        position = 0
        while (opening := re.compile(r"[\[{]").search(repaired, position)) is not None:
            position = opening.start()
            try:
                value, position = decoder.raw_decode(repaired, position)
            except (ValueError, RecursionError):
                position += 1
                continue
            if isinstance(value, dict) or any(isinstance(item, dict | list) for item in value):
                found = True
                yield value
        if found:
            return


def _question_objects(value: Any) -> Iterator[dict[str, Any]]:
    """The objects that have a question or choices, at any depth, in their order."""
    if isinstance(value, dict):
        if _field(value, "choices") is not None or isinstance(_field(value, "question"), str):
            yield value
            return
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _question_objects(item)


def _field(fields: dict[str, Any], name: str) -> Any:
    return next((fields[spelling] for spelling in FIELDS[name] if spelling in fields), None)


def _question_of(fields: dict[str, Any]) -> GeneratedQuestion:
    question = _text(_field(fields, "question"), "question")
    choices = _choices(_field(fields, "choices"))
    if find_options(question) is not None:
        raise _Fault("lettered options inside the question")
    if not all(_is_read_back(question, choices[first:] + choices[:first]) for first in range(CHOICES)):
        raise _Fault("choices that cannot be read back from lettered lines")
    answer = _field(fields, "answer")
    index = answer_index(answer, choices)
    if index is None:
        raise _Fault("an answer that is none of its choices" if answer is not None else "no answer")
    return GeneratedQuestion(question, choices, index, _reference(_field(fields, "reference")))


def _is_read_back(question: str, choices: tuple[str, ...]) -> bool:
    """Whether a reader of the file finds these choices in this order."""
    found = find_options(question_text(question, choices))
    return found is not None and found.texts == choices


def _choices(values: Any) -> tuple[str, ...]:
    if isinstance(values, dict):  # {"A": "Africa", ...}
        if [str(key).strip(" .)(").upper() for key in values] != list(LETTERS[: len(values)]):
            raise _Fault("choices under other names than A, B, C, ...")
        values = list(values.values())
    if not isinstance(values, list):
        raise _Fault("no list of choices")
    choices = tuple(_text(value, "choice") for value in values)
    if len(choices) != CHOICES:
        raise _Fault(f"{len(choices)} choices in place of {CHOICES}")
    marks = (rf"\(?{letter}[.):]\s*(?=\S)" for letter in LETTERS)
    lettered = [re.match(mark, text, re.IGNORECASE) for mark, text in zip(marks, choices, strict=False)]
    if all(lettered):
        choices = tuple(text[mark.end() :] for text, mark in zip(choices, lettered, strict=True) if mark)
    choices = tuple(choice.strip(",;* ") for choice in choices)  # as lettered options are read
    if not all(choices):
        raise _Fault("an empty choice")
    if len({_folded(choice) for choice in choices}) < len(choices):
        raise _Fault("repeated choices")
    return choices


def answer_index(answer: Any, choices: Sequence[str]) -> int | None:
    """The index of the choice that an answer means: an index from 0, a letter, or a choice's text.

    None if it means none, or if two readings differ: "B" where the third choice is "B".

    >>> answer_index("(B) Asia", ["Africa", "Asia"]), answer_index("asia", ["Africa", "Asia"]), answer_index(1.0, "ab")
    (1, 1, 1)
    """
    if isinstance(answer, list) and len(answer) == 1:
        answer = answer[0]
    if isinstance(answer, bool) or not isinstance(answer, int | float | str):
        return None
    if not isinstance(answer, str):
        if answer in range(len(choices)):
            return int(answer)
        same = [number for number, choice in enumerate(choices) if choice == str(answer)]
        return same[0] if len(same) == 1 else None  # 1910 of 1900, 1910, 1920, 1930
    said = " ".join(answer.split())
    readings = {number for number, choice in enumerate(choices) if _folded(choice) == _folded(said)}
    letters = LETTERS[: len(choices)]
    if re.fullmatch(rf"[(\[]?[{letters}{letters.lower()}][)\].:]?", said):
        readings.add(letters.index(said.strip("()[].:").upper()))
    elif said.isdecimal() and int(said) < len(choices):
        readings.add(int(said))
    elif (stated := re.match(rf"\(?([{letters}])[).:]+\s*(.+)", said)) is not None:
        number = letters.index(stated[1])
        readings |= {number} if _folded(choices[number]) == _folded(stated[2]) else set()
    return readings.pop() if len(readings) == 1 else None


def _reference(value: Any) -> str:
    """Sentences of the article; a list of them is joined."""
    parts = value if isinstance(value, list) else [value]
    return " ".join(" ".join(part.split()) for part in parts if isinstance(part, str)).strip()


def _text(value: Any, what: str) -> str:
    try:
        text = " ".join(text_in(value).split())
    except TypeError:
        raise _Fault(f"no text as {what}") from None
    if not text:
        raise _Fault(f"an empty {what}")
    return text


def _folded(text: str) -> str:
    return " ".join(text.split()).strip(" .").casefold()
