"""What is in a folder of photographs: readable ones per class, what is left out and why, an identity of the content.

Up to `THOROUGH` files are decoded by the check of the build, so the numbers are those of its shards. Of more files only
the first bytes are read; what does not decode is then found by the build.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeGuard

import numpy as np

from configs.data import DataConfig
from configs.errors import DataError
from configs.words import counted
from data_prep.class_matching import ClassDifference
from data_prep.images import file_fault
from data_prep.manifest import read_manifest
from data_prep.progress import progress_bar
from data_prep.readers.image_folder import IMAGE_SUFFIXES
from data_prep.records import Record
from data_prep.sample import Drop, Sample, Source
from data_prep.shards import ShardSet
from data_prep.sidecar import Recipe
from data_prep.train_test_check import SourceContent, conflict_notes, mismatch_warnings
from data_prep.validate import Member
from launch.photo_folder import PARTS, Photos, extension_of

THOROUGH = 1000  # files: decoding 1,000 photographs of 12 megapixels takes about a minute on two CPU cores
LEFT_OUT = 0.1  # largest share of photographs that is left out
LISTED = 20  # files that are listed
HEIC = (".heic", ".heif", ".hif")
RAW = (".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf")
CONVERT = (
    "convert them to JPEG: on macOS `sips -s format jpeg *.heic --out .`, elsewhere ImageMagick's "
    "`magick mogrify -format jpg *.heic`; an iPhone takes JPEG with Settings > Camera > Formats > Most Compatible"
)


@dataclass(frozen=True)
class Survey:
    """Readable photographs of each part, what is left out, and `content`, which changes with any of them."""

    photos: Photos
    parts: dict[str, SourceContent]
    left_out: tuple[Drop, ...]
    notes: tuple[str, ...]
    content: str
    decoded: bool
    example: Path | None  # a photograph of the test

    def built(self, shards: Path) -> "Survey":
        """The same with what the build found, which decodes every file. Raises `DataError` for damaged shards."""
        parts = {part: SourceContent.of(part, ShardSet.open(shards / part)) for part in PARTS}
        drops = {drop.file or drop.id: drop for part in PARTS for drop in read_manifest(shards / part).drops}
        return replace(self, parts=parts, left_out=tuple(drops.values()), decoded=True)

    def renamed(self, names: Mapping[str, str]) -> "Survey":
        """The same with new names of classes, by the old ones."""
        parts = {
            part: replace(content, counts={names.get(name, name): count for name, count in content.counts.items()})
            for part, content in self.parts.items()
        }
        return replace(self, parts=parts)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names of the training part."""
        return tuple(self.parts["train"].counts)

    def count(self, part: str) -> int:
        """Readable photographs of a part."""
        return sum(self.parts[part].counts.values())

    @property
    def readable(self) -> int:
        """Readable photographs of both parts."""
        return sum(map(self.count, PARTS))

    @property
    def unreadable(self) -> list[Drop]:
        """Photographs that are left out; other files, such as videos, are none."""
        return [drop for drop in self.left_out if _is_photograph(drop)]

    def check(self, limit: float) -> None:
        """Raise `DataError` if these photographs cannot be trained on, or if more than `limit` of them are left out."""
        folder = self.photos.train
        if not self.readable:
            raise DataError(f"no readable photographs in {folder}: {_kinds(self.left_out) or 'its folders are empty'}")
        unreadable, photographs = len(self.unreadable), self.readable + len(self.unreadable)
        if unreadable > limit * photographs:
            share = unreadable / photographs
            raise DataError(
                f"{unreadable:,} of {photographs:,} photographs cannot be read ({share:.0%}; at most {limit:.0%} are "
                f"left out): {_kinds(self.unreadable)}. Replace or remove them, or leave them all out: "
                f"--set data.max_drop_fraction={min(1.0, np.ceil(100 * share) / 100):g}"
            )
        trained = [name for name, count in self.parts["train"].counts.items() if count]
        if len(trained) < 2:
            found = f"only the class {trained[0]} has" if trained else "no class has"
            raise DataError(
                f"{found} readable photographs for the training in {folder}; add two or more photographs to each class"
            )
        if not self.count("test"):
            raise DataError(
                f"no readable photographs for the test in {self.photos.test}; add one or more to each class"
            )
        respelled = ClassDifference.of(self.parts["test"].counts, trained).respelled
        if respelled:
            test, train = respelled[0]
            raise DataError(
                f"{self.photos.test / test} and {self.photos.train / train} are spelled differently: one class needs "
                f"one spelling; rename one of the folders"
            )

    def warnings(self) -> Iterator[str]:
        """What does not stop a run and may be a mistake."""
        yield from self.notes
        if empty := [name for name, count in self.parts["train"].counts.items() if not count]:
            yield f"no photographs for the training in {', '.join(empty[:3])}{', ...' if len(empty) > 3 else ''}"
        for content in self.parts.values():
            yield from conflict_notes(content)
        yield from mismatch_warnings([self.parts["train"]], [self.parts["test"]])
        if not self.decoded:
            yield f"more than {THOROUGH:,} files: only their first bytes were checked; the build decodes them all"

    def left_out_lines(self) -> Iterator[str]:
        """How many files are left out, then each with its reason."""
        if not self.left_out:
            return
        total, others = self.readable + len(self.unreadable), len(self.left_out) - len(self.unreadable)
        more = f"{' and ' if self.unreadable else ''}{counted(others, 'other file')}" if others else ""
        yield (f"{len(self.unreadable):,} of {total:,} photographs" if self.unreadable else "") + more
        for drop in self.left_out[:LISTED]:
            yield f"  {drop.file or drop.id}: {drop.reason}"
        if len(self.left_out) > LISTED:
            yield f"  and {len(self.left_out) - LISTED:,} more"


def survey(photos: Photos, data: DataConfig) -> Survey:
    """Look at every file of `photos`, with the settings of the build. Raises `DataError` for no classes or no files."""
    sources = photos.read_all()
    records = {part: list(source.records) for part, source in sources.items()}
    decoded = sum(map(len, records.values())) <= THOROUGH
    seen = {}
    for part, source in sources.items():
        recipe = Recipe.of(part, data, source) if decoded else None
        seen[part] = list(_looked_at(records[part], recipe))
    drops = [one for part in PARTS for one in seen[part] if isinstance(one, Drop)]
    once = {drop.file or drop.id: drop for drop in drops}  # a file outside the class folders is a drop of both parts
    digest = hashlib.sha256(f"{decoded}\n".encode())
    for part in PARTS:
        for one in seen[part]:
            digest.update(f"{part} {' '.join(map(str, one)) if isinstance(one, tuple) else one.id}\n".encode())
    return Survey(
        photos=photos,
        parts={part: _content(part, sources[part], seen[part], decoded=decoded) for part in PARTS},
        left_out=tuple(once.values()),
        notes=sources["train"].notes,
        content=digest.hexdigest(),
        decoded=decoded,
        example=next((one.image for one in records["test"] if isinstance(one, Sample) and _opens(one.image)), None),
    )


def _opens(image: object) -> TypeGuard[Path]:
    return isinstance(image, Path) and file_fault(image) is None


_Seen = tuple[str, int, int]
"""Id, class index, and a number that changes with the file: `image_hash`, or its size if it was not decoded."""


def _looked_at(records: Sequence[Record], recipe: Recipe | None) -> Iterator[_Seen | Drop]:
    """What the build makes of each record; without `recipe` by its first bytes."""

    def look(record: Record) -> _Seen | Drop:
        if recipe is not None:
            member = recipe.validate(record)
            if isinstance(member, Member):
                return record.id, member.label, member.image_hash
            return Drop(record.id, member.reason, member.file)
        if isinstance(record, Sample) and isinstance(record.image, Path):
            fault = file_fault(record.image)
            if fault is None:
                return record.id, record.label if record.label is not None else -1, record.image.stat().st_size
            return Drop(record.id, fault, str(record.image))
        return record if isinstance(record, Drop) else Drop(record.id, "no file")

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from progress_bar(pool.map(look, records), name="look", unit="files", total=len(records), keep=False)


def _content(part: str, source: Source, seen: Sequence[_Seen | Drop], *, decoded: bool) -> SourceContent:
    found = [one for one in seen if not isinstance(one, Drop)]
    ids, labels = [one[0] for one in found], [one[1] for one in found]
    classes = np.array([*source.class_names, ""], dtype=object)[np.array(labels, dtype=np.int64)]
    counts = dict.fromkeys(source.class_names, 0) | Counter(filter(None, classes.tolist()))
    hashes = np.array([one[2] if decoded else 0 for one in found], dtype=np.uint64)
    return SourceContent(part, counts, hashes, classes, lambda number: ids[number])


def _is_photograph(drop: Drop) -> bool:
    return extension_of(drop.file or drop.id) in (*IMAGE_SUFFIXES, *HEIC, *RAW) or "HEIC" in drop.reason


def _kinds(drops: Sequence[Drop]) -> str:
    """Numbers of files by suffix and reason, the most frequent first, and how to convert them."""
    kinds = Counter((extension_of(drop.file or drop.id), drop.reason.partition(":")[0]) for drop in drops)
    text = ", ".join(f"{counted(n, 'file')} {suffix} ({reason})" for (suffix, reason), n in kinds.most_common(4))
    photographs = any(extension_of(drop.file or drop.id) in (*HEIC, *RAW) or "HEIC" in drop.reason for drop in drops)
    return f"{text}; {CONVERT}" if photographs else text
