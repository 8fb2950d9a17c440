"""LLaVA's instruction files: a JSON list of conversations, each with at most one image.

Read as LLaVA reads them: a conversation that opens with the assistant loses that turn, a record without "image" is
text only. Irregularities in these files, and how they are handled:

- `id` repeats (665K has some twice): our id is the index in the file; theirs is kept in `meta`.
- wrong extension (OCR-VQA is fetched as .jpg, .png or .gif): a file with the same stem is used.
- roles, keys and contents in the other usual forms: `data_prep.readers.conversation_dialects`.
- paths that are not relative, images inside the record: `data_prep.readers.image_values`.
- several image folders: `image_roots`, a list that is searched in order, or {prefix of the path: folder}.
- missing files, paths that lead out of their folder, <image> missing or doubled, several images: named drops.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from configs.errors import ConfigError, DataError
from data_prep.readers.conversation_dialects import image_of, shown, turns_of, unread_tag
from data_prep.readers.image_values import ImageFormError, existing_spelling, image_value
from data_prep.readers.json_text import BadRecord
from data_prep.readers.records_file import read_records
from data_prep.records import LazyRecords, Record
from data_prep.sample import IMAGE_PLACEHOLDER, OWN_ID, Drop, Sample, Source, Turn

OTHER_SUFFIXES = (".jpg", ".png", ".gif", ".jpeg", ".webp", ".JPG", ".JPEG", ".PNG", ".jfif", ".jpe", ".avif", "")
Roots = Sequence[tuple[str, Path]]


def read(
    path: Path,
    *,
    image_roots: dict[str, str] | list[str] | str | None = None,
    image_key: str | None = None,
    image_forms: str = "relative",
    missing_placeholder: str = "drop",
) -> Source:
    """The conversations of the JSON, JSONL or parquet file `path`, in its order; images lie under `image_roots`.

    `image_roots` is a folder, a list of folders, or {prefix: folder} where the longest matching prefix counts and
    is replaced by the folder; by default the file's own folder. `image_key` names the field of the image (default:
    image or images). `image_forms` is `relative` (paths below the roots) or `any` (absolute and Windows paths,
    file: URLs, base64, data URIs, too). `missing_placeholder` says what becomes of a record with an image and
    without `<image>`: `drop`, or `first`, which puts it before the first question.
    """
    for name, value, known in (
        ("image_forms", image_forms, ("relative", "any")),
        ("missing_placeholder", missing_placeholder, ("drop", "first")),
    ):
        if value not in known:
            raise ConfigError(f"{name} is {value!r}; choose one of: {', '.join(known)}")
    rows = read_records(path).records
    form = _Form(_roots(path, image_roots), image_key, image_forms == "any", missing_placeholder == "first")
    return Source((), LazyRecords(partial(_record, rows, form), len(rows)))


@dataclass(frozen=True, slots=True)
class _Form:
    """How records are read: the options of `read`."""

    roots: Roots
    image_key: str | None
    any_form: bool
    placeholder_first: bool


def _roots(path: Path, image_roots: Mapping[str, str] | list[str] | str | None) -> Roots:
    """(prefix, folder) pairs in the order they are tried."""
    if image_roots is None:
        image_roots = str(path if path.is_dir() else path.parent)
    if isinstance(image_roots, Mapping):
        pairs = sorted(image_roots.items(), key=lambda pair: -len(pair[0]))
    else:
        pairs = [("", folder) for folder in ([image_roots] if isinstance(image_roots, str) else image_roots)]
    if not pairs:
        raise ConfigError("the option image_roots names no folder; give at least one, or leave it out")
    roots = [(prefix.strip("/"), Path(folder).expanduser()) for prefix, folder in pairs]
    if missing := [(prefix, folder) for prefix, folder in roots if not folder.is_dir()]:
        raise _missing_roots(missing)
    return roots


def _missing_roots(missing: Roots) -> DataError:
    """The error for image roots that are no folders: all of them, and how each is given or left out."""
    folders = ", ".join(str(folder) for _, folder in missing)
    named = (
        f"the image roots {folders} are not folders"
        if len(missing) > 1
        else f"the image root {folders} is not a folder"
    )
    if not any(prefix for prefix, _ in missing):
        return DataError(f"{named}; set the option image_roots of this source")
    nulls = ", ".join(f"{prefix}: null" for prefix, _ in missing)
    return DataError(
        f"{named}; get the images, name their folders in the option image_roots, or leave these out, which a base file "
        f"may have named: `image_roots: {{{nulls}}}`"
    )


def _record(rows: list[Any], form: _Form, index: int) -> Record:
    record = _read_record(rows, form, index)
    own = rows[index].get("id") if isinstance(record, Drop) and isinstance(rows[index], Mapping) else None
    return replace(record, own_id=str(own)) if isinstance(record, Drop) and isinstance(own, str | int) else record


def _read_record(rows: list[Any], form: _Form, index: int) -> Record:
    number, row = f"{index:07d}", rows[index]
    if isinstance(row, BadRecord):
        return Drop(number, row.reason)
    try:
        if not isinstance(row, Mapping):
            raise TypeError(f"it is {shown(row)}, not an object")
        turns, system = turns_of(row)
    except (KeyError, TypeError, AttributeError, DataError) as error:
        return Drop(number, f"malformed record: {error}")
    try:
        value = image_of(row, form.image_key)
        tag = unread_tag(turns) if not any(IMAGE_PLACEHOLDER in turn.text for turn in turns) else None
        if tag is not None:
            return Drop(number, f"image by another tag: {tag} is not read; write {IMAGE_PLACEHOLDER} and the key image")
        image = None if value is None else image_value(value, any_form=form.any_form)
    except (DataError, ImageFormError) as error:
        return Drop(number, str(error))
    if turns and turns[0].speaker == "gpt":
        turns = turns[1:]
    meta = {OWN_ID: row["id"] if isinstance(row.get("id"), str | int) else None}
    meta |= {} if system is None else {"system": system}
    if image is None:
        return Sample(id=number, turns=turns, meta=meta)
    if form.placeholder_first and turns and not any(IMAGE_PLACEHOLDER in turn.text for turn in turns):
        turns = (Turn(turns[0].speaker, f"{IMAGE_PLACEHOLDER}\n{turns[0].text}"), *turns[1:])
    if not isinstance(image, str):
        return Sample(id=number, image=image, turns=turns, meta=meta)
    return _with_image(number, image, turns, form.roots, meta | {"image": image})


def _with_image(number: str, image: str, turns: tuple[Turn, ...], roots: Roots, meta: dict[str, Any]) -> Record:
    relative = PurePosixPath(image)
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
    """`file`, or the file of this name in another spelling or with another extension, or None."""
    found = existing_spelling(file)
    if found is not None:
        return found
    others = (file.with_suffix(suffix) for suffix in OTHER_SUFFIXES)
    return next((other for other in others if os.path.isfile(other)), None)  # noqa: PTH113 - Path.is_file raises
