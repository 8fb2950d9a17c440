"""TextVQA (arXiv 1904.08920) as it is published: TextVQA_0.5.1_val.json, `{"data": [{question_id, image_id, question,
answers (ten), ...}, ...]}`, with the images IMAGE_ID.jpg of the folder train_images.

LLaVA's llava_textvqa_val_v051_ocr.jsonl (JSON lines with question_id, which is the image's id, and text) has the OCR
tokens of every question; the option `ocr_file` reads them, and protocol.ocr_tokens shows them to the model.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from configs.errors import DataError
from data_prep.prompts import image_question
from data_prep.readers.file_content import read_text
from data_prep.readers.json_text import BadRecord, json_values, text_in
from data_prep.records import LazyRecords, Record
from data_prep.sample import Drop, Sample, Source, Turn

PEOPLE = 10  # answers of a question, by which VQA accuracy is defined
IMAGES = "train_images"  # TextVQA's validation images are among OpenImages' training images
OCR_LINE = re.compile(r"^Reference OCR token:(.*)$", re.MULTILINE)
OcrTokens = Mapping[tuple[str, str], list[str]]
"""(image id, question in lower case) to the tokens."""


def read(path: Path, *, image_root: str | None = None, ocr_file: str | None = None) -> Source:
    """The questions of `path` with ten answers each; images are `image_root`/ID.jpg (default: train_images next to it).

    With `ocr_file`, LLaVA's question file, each question keeps its OCR tokens; one that the file lacks is dropped.
    """
    rows = _rows(path)
    nearby = path.parent / IMAGES
    root = Path(image_root).expanduser() if image_root else nearby if nearby.is_dir() else path.parent
    tokens = None if ocr_file is None else _ocr_tokens(Path(ocr_file).expanduser())
    return Source((), LazyRecords(partial(_record, rows, root, tokens), len(rows)))


def _rows(path: Path) -> Sequence[Any]:
    values = json_values(path, read_text(path))
    if len(values) == 1 and isinstance(values[0], dict) and isinstance(values[0].get("data"), list):
        return list(values[0]["data"])
    if values and all(isinstance(value, dict) and "answers" in value for value in values):
        return values
    raise DataError(f"{path} has no list `data` of questions with answers; set path to TextVQA_0.5.1_val.json")


def _ocr_tokens(path: Path) -> OcrTokens:
    """The tokens that LLaVA's prompts list. Raises `DataError` for a file without any."""
    found: dict[tuple[str, str], list[str]] = {}
    for row in json_values(path, read_text(path)):
        if not isinstance(row, dict) or "text" not in row or "question_id" not in row:
            raise DataError(f"{path} is not LLaVA's file of TextVQA questions: a line lacks text or question_id")
        text = str(row["text"])
        if (line := OCR_LINE.search(text)) is not None:
            tokens = line[1].strip()
            key = (str(row["question_id"]), text.partition("\n")[0].strip().lower())
            found[key] = tokens.split(", ") if tokens else []
    if not found:
        raise DataError(f"{path} has no line `Reference OCR token:`; set ocr_file to llava_textvqa_val_v051_ocr.jsonl")
    return found


def _record(rows: Sequence[Any], root: Path, tokens: OcrTokens | None, index: int) -> Record:
    row = rows[index]
    if isinstance(row, BadRecord):
        return Drop(f"{index:06d}", row.reason)
    try:
        number, image, question = (text_in(row[key]) for key in ("question_id", "image_id", "question"))
        answers = [text_in(answer) for answer in row.get("answers") or ()]
    except (KeyError, TypeError, AttributeError) as error:
        return Drop(f"{index:06d}", f"malformed question: {type(error).__name__} {error}")
    if len(answers) != PEOPLE:
        hint = "" if answers else ": the test set is published without any"
        return Drop(number, f"wrong number of answers, {len(answers)}; VQA accuracy needs {PEOPLE}{hint}")
    meta: dict[str, Any] = {"group": image, "answers": answers}
    if tokens is not None:
        known = tokens.get((image, question.strip().lower()))
        if known is None:
            return Drop(number, "ocr_file does not have this question of this image")
        meta["ocr_tokens"] = known
    (most_common, _), *_ = Counter(answers).most_common(1)
    return Sample(
        id=f"{image}/{number}",
        image=root / f"{image}.jpg",
        turns=(Turn("human", image_question(question)), Turn("gpt", most_common)),
        meta=meta,
    )
