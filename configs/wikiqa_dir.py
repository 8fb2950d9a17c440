"""The names of all files in the folder of a construction of ImageWikiQA. No other module spells them."""

from dataclasses import dataclass
from pathlib import Path

RECORD = "construction.json"


@dataclass(frozen=True)
class WikiqaDir:
    """The folder: two files of replies, to which lines are only appended, and a file a stage, written whole."""

    root: Path

    def stage(self, name: str) -> Path:
        """What the stage `name` found: a line with its counts, then a line a class or question."""
        return self.root / f"{name}.jsonl"

    @property
    def question_replies(self) -> Path:
        """Replies with questions, as they came."""
        return self.root / "question_replies.jsonl"

    @property
    def filter_replies(self) -> Path:
        """Answers to the questions, with the class name and without it."""
        return self.root / "filter_replies.jsonl"

    @property
    def images(self) -> Path:
        """Folder of the images that the result shows."""
        return self.root / "images"

    @property
    def result(self) -> Path:
        """The questions in the form of the released file."""
        return self.root / "imagewikiqa.jsonl"

    @property
    def record(self) -> Path:
        """Counts of all stages, settings, and checksum of the result; written last."""
        return self.root / RECORD


def records_below(folder: Path) -> list[Path]:
    """Every construction's record in the folders below `folder`, sorted."""
    return sorted(folder.rglob(RECORD))
