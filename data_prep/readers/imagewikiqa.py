"""ImageWikiQA: 2,000 four-way questions about ImageNet images, as the authors publish them (imagewikiqa.jsonl).

A line has image, text (question, options A to D, "Choose A, B, C, or D."), label (the letter), wiki (the sentence
that answers it) and classname; no question id. 1,961 images serve 2,000 questions, so an id is the line's number.
"""

import json
import os
from functools import partial
from pathlib import Path

from data_prep.prompts import image_question
from data_prep.readers.jsonl import lines_of, read_text
from data_prep.records import LazyRecords, Record
from data_prep.sample import Drop, Sample, Source, Turn


def read(path: Path, *, image_root: str | None = None) -> Source:
    """The questions of the JSONL file `path`; images lie under `image_root` (default: the file's folder).

    The file says `images/ILSVRC2012_val_00000001.JPEG`; ImageNet's flat validation folder, without `images/`, will do.
    """
    lines = lines_of(read_text(path))
    return Source((), LazyRecords(partial(_record, lines, Path(image_root) if image_root else path.parent), len(lines)))


def _record(lines: list[str], image_root: Path, index: int) -> Record:
    number = f"{index:04d}"
    try:
        row = json.loads(lines[index])
        question, answer, name, wiki, image = (row[key] for key in ("text", "label", "classname", "wiki", "image"))
    except (ValueError, KeyError, TypeError) as error:
        return Drop(number, f"malformed line: {type(error).__name__} {error}")
    file = image_root / image
    flat = image_root / file.name
    return Sample(
        id=number,
        image=flat if os.path.isfile(flat) and not os.path.isfile(file) else file,  # noqa: PTH113 - as in llava
        label_name=name,
        turns=(Turn("human", image_question(question)), Turn("gpt", answer)),
        meta={"classname": name, "wiki": wiki, "answer": answer},
    )
