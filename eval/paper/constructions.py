"""What `data_prep.imagewikiqa` built, as numbers next to those of Appendix C.1."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from configs.errors import RunError
from configs.wikiqa_dir import records_below

ROW = "appendixC.1/ImageWikiQA/"
STATISTICS = {
    "questions": "questions",
    "images_of_a_class": "most_images_of_a_class",
    "repeats_of_a_question": "most_repeats_of_a_question",
}
"""Row to the statistic of the questions that it is compared with."""


def construction_numbers(folders: Sequence[Path]) -> Iterator[tuple[str, float, str, str]]:
    """(row, number, how it was made, folder) of every construction below `folders`.

    Raises `RunError` for a damaged record.
    """
    for file in sorted({file for folder in folders for file in records_below(folder)}):
        try:
            record = json.loads(file.read_text(encoding="utf-8"))
            settings = record["settings"]
            made = f"questions by {settings['model']}, images of {settings['source']}"
            numbers = {row: record["statistics"][key] for row, key in STATISTICS.items()}
            numbers["questions_written_for_a_class"] = settings["questions_per_class"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(f"{file} is damaged ({error!r}); run data_prep.imagewikiqa again, or delete it") from error
        yield from ((f"{ROW}{row}", float(number), made, str(file.parent)) for row, number in numbers.items())
