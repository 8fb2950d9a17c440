"""LLaVA's instruction files: a JSON list of conversations, each with at most one image.

Read as LLaVA reads them: a conversation that opens with the assistant loses that turn, a record without "image" is
text only. Irregularities in these files, and how they are handled:

- `id` repeats (665K has some twice): our id is the index in the file; theirs is kept in `meta`.
- wrong extension (OCR-VQA is fetched as .jpg, .png or .gif): a file with the same stem is used.
- several image folders: `image_roots`, a list that is searched in order, or {prefix of the path: folder}.
- missing files, paths that lead out of their folder, <image> missing or doubled, several images: named drops.
"""

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from configs.errors import DataError
from data_prep.readers.jsonl import load_values
from data_prep.records import LazyRecords, Record
from data_prep.sample import Drop, Sample, Source, Turn, parse_turns

OTHER_SUFFIXES = (".jpg", ".png", ".gif", ".jpeg", ".webp", ".JPG", ".JPEG", ".PNG")
Roots = Sequence[tuple[str, Path]]


def read(path: Path, *, image_roots: dict[str, str] | list[str] | str | None = None) -> Source:
    """The conversations of the JSON (or JSONL) file `path`, in its order; images lie under `image_roots`.

    `image_roots` is a folder, a list of folders, or {prefix: folder} where the longest matching prefix counts and
    is replaced by the folder; by default the file's own folder.
    """
    rows = load_values(path)
    return Source((), LazyRecords(partial(_record, rows, _roots(path, image_roots)), len(rows)))


def _roots(path: Path, image_roots: Mapping[str, str] | list[str] | str | None) -> Roots:
    """(prefix, folder) pairs in the order they are tried."""
    if image_roots is None:
        image_roots = str(path.parent)
    if isinstance(image_roots, Mapping):
        pairs = sorted(image_roots.items(), key=lambda pair: -len(pair[0]))
    else:
        pairs = [("", folder) for folder in ([image_roots] if isinstance(image_roots, str) else image_roots)]
    roots = [(prefix.strip("/"), Path(folder).expanduser()) for prefix, folder in pairs]
    for _, folder in roots:
        if not folder.is_dir():
            raise DataError(f"the image root {folder} is not a folder; set the option image_roots of this source")
    return roots


def _record(rows: list[Any], roots: Roots, index: int) -> Record:
    number, row = f"{index:07d}", rows[index]
    try:
        image, turns = row.get("image"), parse_turns(row["conversations"])
        if not all(isinstance(turn.text, str) for turn in turns):
            raise TypeError("a turn's value is not a text")
    except (KeyError, TypeError, AttributeError, DataError) as error:
        return Drop(number, f"malformed record: {type(error).__name__} {error}")
    if turns and turns[0].speaker == "gpt":
        turns = turns[1:]
    meta = {"llava_id": row.get("id")}
    if image is None:
        return Sample(id=number, turns=turns, meta=meta)
    if isinstance(image, list):
        return Drop(number, f"several images: {len(image)}; a sample has at most one")
    return _with_image(number, image, turns, roots, meta | {"image": image})


def _with_image(number: str, image: Any, turns: tuple[Turn, ...], roots: Roots, meta: dict[str, Any]) -> Record:
    relative = PurePosixPath(str(image))
    if not isinstance(image, str) or not image or "\0" in image or relative.is_absolute() or ".." in relative.parts:
        return Drop(number, f"unsafe image path: {image!r} does not stay in its folder")
    candidates = [
        folder / relative.relative_to(prefix)
        for prefix, folder in roots
        if not prefix or relative.is_relative_to(prefix)
    ]
    if not candidates:
        known = ", ".join(prefix for prefix, _ in roots)
        return Drop(number, f"no image root: no prefix of image_roots fits; they are {known}", image)
    file = next((found for found in map(existing, candidates) if found is not None), candidates[0])
    return Sample(id=number, image=file, turns=turns, meta=meta)


def existing(file: Path) -> Path | None:
    """`file`, or the file beside it that differs by extension alone, or None."""
    if os.path.isfile(file):  # noqa: PTH113 - Path.is_file raises over names that no file can have
        return file
    others = (file.with_suffix(suffix) for suffix in OTHER_SUFFIXES)
    return next((other for other in others if os.path.isfile(other)), None)  # noqa: PTH113
