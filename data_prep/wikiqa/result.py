"""Stage 5: the final questions in the form of the released file, with their images next to it."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from configs.section import result_fields
from configs.wikiqa import WikiqaConfig
from configs.wikiqa_dir import WikiqaDir
from data_prep.atomic import write_bytes, write_json
from data_prep.lettered_options import LETTERS
from data_prep.line_file import complete_lines
from data_prep.readers.imagewikiqa import line_of, question_text
from data_prep.wikiqa.file_statistics import read_rows, statistics
from data_prep.wikiqa.image_stage import ChosenImage
from data_prep.wikiqa.question_stage import ClassQuestion
from data_prep.wikiqa.selection import Item, balanced, chosen_items
from data_prep.wikiqa.stage_file import StageFile

RESULT = "result"
RELEASED_FOLDER = "images"  # what the released file puts before the names of images


def final_stage(
    config: WikiqaConfig, questions: Sequence[ClassQuestion], images: Mapping[str, Sequence[ChosenImage]]
) -> tuple[StageFile, list[Item]]:
    """The final questions in the order of the file, and their counts."""
    pairs = [
        Item(one.class_id, one.class_name, one.number, image.name, one.question)
        for one in questions
        for image in images.get(one.class_id, ())
    ]
    chosen = chosen_items(pairs, repeats=config.repeats, total=config.total, seed=config.seed)
    items = balanced(chosen.items, config.seed)
    letters = Counter(LETTERS[item.question.answer] for item in items)
    counts = {
        "kept questions": len(questions),
        "with an image each": len(pairs),
        f"over {config.repeats} repeats": chosen.repeats,
        f"over {config.total:,} in all": chosen.surplus,
        "questions": len(items),
        "missing of the wanted": max(0, config.total - len(items)),
        "classes": len({item.class_id for item in items}),
    }
    counts |= {letter: letters[letter] for letter in sorted(letters)}
    return StageFile(RESULT, "", counts), items


def write_result(
    folder: WikiqaDir,
    config: WikiqaConfig,
    items: Sequence[Item],
    images: Mapping[str, Sequence[ChosenImage]],
    stages: Sequence[StageFile],
) -> None:
    """Write the images, the questions, and last the record; images that only a former result shows are removed."""
    former = _images_of(folder.result)
    known = {image.name: image for chosen in images.values() for image in chosen}
    folder.images.mkdir(parents=True, exist_ok=True)
    for name in sorted({item.image for item in items}):
        file = folder.images / name
        if not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != known[name].sha256:
            write_bytes(file, known[name].read())
    lines = "".join(map(_line, items)).encode()
    write_bytes(folder.result, lines)
    for name in former - {item.image for item in items}:
        (folder.images / name).unlink(missing_ok=True)
    record = {
        "questions": len(items),
        "sha256": hashlib.sha256(lines).hexdigest(),
        "statistics": statistics(*read_rows(folder.result)),
        "stages": {stage.stage: dict(stage.counts) for stage in stages},
        "settings": result_fields(config),
    }
    write_json(folder.record, record)


def _images_of(result: Path) -> set[str]:
    """The names of the images that an earlier result shows; a line that was damaged since names none."""
    found = set()
    for _, line in complete_lines(result) if result.is_file() else ():
        with suppress(ValueError, KeyError, TypeError):
            found.add(Path(json.loads(line)["image"]).name)
    return found


def _line(item: Item) -> str:
    question = item.question
    return line_of(
        f"{RELEASED_FOLDER}/{item.image}",
        question_text(question.question, question.choices),
        LETTERS[question.answer],
        wiki=question.reference,
        classname=item.class_name,
    )
