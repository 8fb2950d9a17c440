"""MM-Vet (arXiv 2308.02490): 218 questions about 200 images with free answers, each of one or several capabilities.

mm-vet.json is an object: `{"v1_0": {imagename, question, answer, capability: [rec, ocr, ...], imagesource}, ...}`. The
answer may have several parts (<AND>) or alternatives (<OR>). The images lie in the folder images.
"""

from functools import partial
from pathlib import Path
from typing import Any

from configs.errors import DataError
from data_prep.prompts import image_question
from data_prep.readers.file_content import read_text
from data_prep.readers.json_text import json_values, text_in
from data_prep.records import LazyRecords, Record
from data_prep.sample import Drop, Sample, Source, Turn

IMAGES = "images"


def read(path: Path, *, image_root: str | None = None) -> Source:
    """The questions of `path`; images lie under `image_root` (default: the folder images, else the file's folder)."""
    values = json_values(path, read_text(path))
    if len(values) != 1 or not isinstance(values[0], dict) or not all(isinstance(v, dict) for v in values[0].values()):
        raise DataError(f"{path} is not an object of questions by id; set path to mm-vet.json")
    rows, nearby = list(values[0].items()), path.parent / IMAGES
    root = Path(image_root).expanduser() if image_root else nearby if nearby.is_dir() else path.parent
    return Source((), LazyRecords(partial(_record, rows, root), len(rows)))


def _record(rows: list[tuple[str, dict[str, Any]]], root: Path, index: int) -> Record:
    number, row = rows[index]
    try:
        question, answer, image = (text_in(row[key]) for key in ("question", "answer", "imagename"))
        capabilities = row["capability"]
        if not isinstance(capabilities, list) or not capabilities:
            return Drop(number, f"its capability is {str(capabilities)[:40]!r}, not a list of names")
        names = sorted({text_in(name) for name in capabilities})
    except (KeyError, TypeError) as error:
        return Drop(number, f"malformed question: {type(error).__name__} {error}")
    return Sample(
        id=number,
        image=root / image,
        turns=(Turn("human", image_question(question)), Turn("gpt", answer)),
        meta={"group": image, "capability": names},
    )
