"""POPE (arXiv 2305.10355): six yes-or-no questions about each of 500 COCO images, in three sets of negatives.

coco_pope_random.json, coco_pope_popular.json and coco_pope_adversarial.json hold JSON lines with question_id, image,
text and label (or answer): yes or no. The images are COCO's val2014.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from configs.errors import DataError
from data_prep.prompts import SHORT_ANSWER, image_question
from data_prep.readers.file_content import read_text
from data_prep.readers.json_text import BadRecord, json_values, text_in
from data_prep.records import LazyRecords, Record
from data_prep.sample import Drop, Sample, Source, Turn

QUESTION_KEYS, IMAGE_KEYS, ANSWER_KEYS = ("text", "question"), ("image", "image_source"), ("label", "answer")


def read(path: Path, *, image_root: str | None = None) -> Source:
    """The questions of `path`; images lie under `image_root` (default: the file's folder).

    LLaVA's line "Answer the question using a single word or phrase." is no part of a question: an evaluation adds it by
    protocol.question_suffix. Raises `DataError` for a file without labels.
    """
    rows = [
        row for value in json_values(path, read_text(path)) for row in (value if isinstance(value, list) else [value])
    ]
    if not any(isinstance(row, dict) and _first(row, ANSWER_KEYS) is not None for row in rows):
        raise DataError(
            f"{path} has no line with label or answer; set path to a coco_pope_*.json file (LLaVA's "
            "llava_pope_test.jsonl has the questions of all three sets and no labels)"
        )
    root = Path(image_root).expanduser() if image_root else path.parent
    return Source((), LazyRecords(partial(_record, rows, root), len(rows)))


def _record(rows: Sequence[Any], root: Path, index: int) -> Record:
    row, number = rows[index], f"{index:06d}"
    if isinstance(row, BadRecord):
        return Drop(number, row.reason)
    try:
        found = {keys: _first(row, keys) for keys in (QUESTION_KEYS, IMAGE_KEYS, ANSWER_KEYS)}
        if missing := [keys for keys, value in found.items() if value is None]:
            return Drop(number, f"malformed question: no {' or '.join(missing[0])}")
        question, image, answer = (text_in(value) for value in found.values())
        number = text_in(row.get("question_id", index))
    except (TypeError, AttributeError) as error:
        return Drop(number, f"malformed question: {type(error).__name__} {error}")
    answer = answer.strip().lower()
    if answer not in ("yes", "no"):
        return Drop(number, f"its answer is {answer[:40]!r}, neither yes nor no")
    name = image if Path(image).suffix else f"{image}.jpg"
    return Sample(
        id=f"{Path(name).stem}/{number}",
        image=root / name,
        turns=(Turn("human", image_question(question.removesuffix(SHORT_ANSWER).strip())), Turn("gpt", answer)),
        meta={"group": Path(name).stem},
    )


def _first(row: dict[str, Any], keys: tuple[str, ...]) -> Any:
    return next((row[key] for key in keys if row.get(key) is not None), None)
