"""The file of captions that `data_prep.build` reads: one JSON line an image, in the source's order.

    {"image": "jpg/image_00001.jpg", "caption": "A pink primrose in a garden.", "label": "pink primrose", "id": "..."}

Paths are relative to the file's folder. An image that is no file of its own (in a tar, or rendered) is written next to
it, into `NAME_images/`. `NAME.replies.jsonl` keeps every reply, `NAME.summary.json` the counts.
"""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from data_prep import atomic
from data_prep.images import true_extension
from data_prep.line_file import json_line
from data_prep.sample import Sample
from data_prep.validate import read_image


@dataclass(frozen=True, slots=True)
class CaptionPaths:
    """The file of captions and what belongs to it."""

    captions: Path

    @property
    def replies(self) -> Path:
        """Every reply of the model (`data_prep.api.question_file`)."""
        return self.captions.with_suffix(".replies.jsonl")

    @property
    def summary(self) -> Path:
        """Counts, model and prompts."""
        return self.captions.with_suffix(".summary.json")

    @property
    def images(self) -> Path:
        """Images that are no files of their own."""
        return self.captions.with_name(f"{self.captions.stem}_images")


def write_captions(paths: CaptionPaths, captions: Iterable[tuple[Sample, str]]) -> int:
    """Write the file, complete or not at all, and the images it needs; returns the number of captions."""
    count = 0
    paths.captions.parent.mkdir(parents=True, exist_ok=True)
    with atomic.atomic_file(paths.captions) as file:
        for sample, caption in captions:
            line = {"image": _image_path(sample, paths), "caption": caption, "label": sample.label_name}
            file.write(json_line({**line, "id": sample.id}).encode())
            count += 1
    return count


def _image_path(sample: Sample, paths: CaptionPaths) -> str:
    """The image's path as the file names it; written first if it is no file."""
    folder = paths.captions.parent
    if isinstance(sample.image, Path):
        return Path(os.path.relpath(sample.image, folder)).as_posix()
    image = read_image(sample.image)
    assert image is not None
    name = re.sub(r"[^\w./ -]|\.\.+|^/", "_", sample.id)
    path = paths.images / f"{name}.{true_extension(image)}"
    if not (path.is_file() and path.read_bytes() == image):
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic.write_bytes(path, image)
    return path.relative_to(folder).as_posix()
