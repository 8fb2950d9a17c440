"""ImageWikiQA: 2,000 four-way questions about ImageNet images, as the authors publish them (imagewikiqa.jsonl).

A line has image, text (question, options A to D, "Choose A, B, C, or D."), label (the letter), wiki (the sentence
that answers it) and classname; no question id. 1,961 images serve 2,000 questions, so an id is the line's number.
"""

import json
import os
from collections.abc import Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path

from configs.errors import DataError
from data_prep.choice_prompts import option_lines
from data_prep.lettered_options import LETTERS, answer_letter, find_options, unreadable_options
from data_prep.prompts import image_question
from data_prep.readers.file_content import read_text
from data_prep.readers.image_folder import IMAGE_SUFFIXES
from data_prep.readers.json_text import lines_of, text_in
from data_prep.records import LazyRecords, Record
from data_prep.sample import Drop, Sample, Source, Turn

KEYS = ("text", "label", "classname", "wiki", "image")


def read(path: Path, *, image_root: str | None = None, stand_ins: str | None = None) -> Source:
    """The questions of the JSONL file `path`; images lie under `image_root` (default: the file's folder).

    The file says `images/ILSVRC2012_val_00000001.JPEG`; ImageNet's flat validation folder, without `images/`, will do.
    Without ImageNet, each image is replaced by one from the folder `stand_ins`, chosen by a hash of the name:
    everything runs, and the results mean nothing. Raises `DataError` if that folder has no image.
    """
    lines = lines_of(read_text(path))
    root = Path(image_root).expanduser() if image_root else path.parent
    others = [] if stand_ins is None else _images(Path(stand_ins).expanduser())
    return Source((), LazyRecords(partial(_record, lines, root, others), len(lines)))


def line_of(image: str, question: str, letter: str, *, wiki: str, classname: str) -> str:
    """A question as a line of the file, in the fields' released order; `question` is `question_text`'s result."""
    values = {"image": image, "text": question, "label": letter, "wiki": wiki, "classname": classname}
    return json.dumps(values) + "\n"


def question_text(question: str, options: Sequence[str]) -> str:
    r"""A question with its options as the file holds it.

    >>> question_text("Where does it live?", ["Africa", "Asia", "Peru"])
    'Where does it live?\nA. Africa\nB. Asia\nC. Peru\nChoose A, B, or C.'
    """
    letters = LETTERS[: len(options)]
    return f"{question}\n{option_lines(options)}\nChoose {', '.join(letters[:-1])}, or {letters[-1]}."


def _images(folder: Path) -> list[Path]:
    found = sorted(file for file in folder.rglob("*") if file.name.lower().endswith(IMAGE_SUFFIXES))
    if not found:
        raise DataError(f"{folder} has no image to substitute for those of the questions")
    return found


def _record(lines: list[str], image_root: Path, stand_ins: Sequence[Path], index: int) -> Record:
    number = f"{index:04d}"
    try:
        row = json.loads(lines[index])
        question, answer, name, wiki, image = (text_in(row[key]) for key in KEYS)
    except (ValueError, KeyError, TypeError) as error:
        return Drop(number, f"malformed line: {type(error).__name__} {error}")
    if (options := find_options(question)) is None:
        return Drop(number, unreadable_options(question))
    if answer_letter(answer, options) is None:
        return Drop(number, f"the answer {answer[:40]!r} is none of the {len(options.texts)} options' letters")
    meta = {"classname": name, "wiki": wiki, "answer": answer}
    if stand_ins:
        file = stand_ins[int.from_bytes(sha256(image.encode()).digest()) % len(stand_ins)]
        meta["stand_in"] = file.name
    else:
        file = _found(image_root, image)
    return Sample(
        id=number,
        image=file,
        label_name=name,
        turns=(Turn("human", image_question(question)), Turn("gpt", answer)),
        meta=meta,
    )


def _found(image_root: Path, image: str) -> Path:
    """Where the image lies, in the folder that the file names or in the flat one."""
    file = image_root / image
    flat = image_root / file.name
    return flat if os.path.isfile(flat) and not os.path.isfile(file) else file  # noqa: PTH113 - as in llava
