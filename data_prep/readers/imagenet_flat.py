"""ImageNet as the hub packs it: files in one folder whose names hold the class.

    n01440764_10026_n01440764.JPEG            a training image: id n01440764/n01440764_10026, as in class folders
    ILSVRC2012_val_00000001_n01751748.JPEG    a validation image: id ILSVRC2012_val_00000001, as without the class

Ids and order are those of the other forms, so that shards made from any of them hold the same bytes. The suffix of a
file does not matter (.JPEG, .jpg, none).
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from configs.errors import DataError
from data_prep.class_names import ClassList, load_class_list
from data_prep.images import file_fault
from data_prep.prompts import classification_turns
from data_prep.readers.image_folder import IMAGE_SUFFIXES, ignored_file
from data_prep.records import LazyRecords, Record
from data_prep.sample import Drop, ImageOrigin, Sample, Source

TWO = "two"  # in place of a class: the name holds two different ones
_TRAIN = re.compile(r"(n\d{8})_(\d+)(?:_(n\d{8}))?")
_OTHER = re.compile(r"(ILSVRC2012_(?:val|test)_\d+)(?:_(n\d{8}))?", re.IGNORECASE)


@dataclass(frozen=True, slots=True, order=True)
class ImageName:
    """What the name of an ImageNet file says: the image's id and its class, None if it says none."""

    id: str
    wnid: str | None


def image_name(name: str) -> ImageName | None:
    """What a file's name says, with or without folder and suffix; None for a malformed name.

    >>> image_name("ILSVRC2012_val_00000001_n01751748.JPEG")
    ImageName(id='ILSVRC2012_val_00000001', wnid='n01751748')
    """
    stem = re.sub(r"\.[A-Za-z]{1,5}$", "", name.rpartition("/")[2])
    if match := _TRAIN.fullmatch(stem):
        first, number, last = match.groups()
        return ImageName(f"{first}/{first}_{number}", first if last in (None, first) else TWO)
    if match := _OTHER.fullmatch(stem):
        return ImageName(match[1], match[2])
    return None


def read(path: Path, *, prompt: str = "paper") -> Source:
    """Images under `path`, in one folder or several, whose names hold their class, as the hub packs ImageNet."""
    classes = load_class_list("imagenet")
    classification_turns(prompt, "")
    named: list[tuple[str, str | None, str]] = []  # (id, class, file)
    for file in image_files(path):
        found = image_name(file)
        named.append((found.id, found.wnid, file) if found else (file, None, file))
    if not any(wnid for _, wnid, _ in named):
        raise DataError(
            f"{path} has no image whose name holds a class, such as n01440764_10026_n01440764.JPEG; read class folders"
            " with image_folder, and validation images without the class with imagenet_validation and a ground_truth"
        )
    named.sort()

    def make(index: int) -> Record:
        sample_id, wnid, file = named[index]
        if not file.lower().endswith(IMAGE_SUFFIXES) and (fault := file_fault(path / file)):
            return Drop(sample_id, fault, str(path / file))
        return labelled(sample_id, wnid, path / file, classes, prompt)

    return Source(classes.names, LazyRecords(make, len(named)))


def labelled(
    sample_id: str, wnid: str | None, image: ImageOrigin, classes: ClassList, prompt: str, file: Path | None = None
) -> Record:
    """The sample of an image of class `wnid`, or a drop where its name says none, two or an unknown one."""
    where = str(file or image) if file or isinstance(image, Path) else None
    if wnid is None:
        return Drop(sample_id, "no class: its name holds no WordNet id", where)
    if wnid not in classes.by_key:
        what = "its name holds two WordNet ids" if wnid == TWO else f"{wnid} is none of ImageNet-1k's"
        return Drop(sample_id, f"unknown class: {what}", where)
    label = classes.by_key[wnid]
    name = classes.names[label]
    return Sample(id=sample_id, image=image, label=label, label_name=name, turns=classification_turns(prompt, name))


def image_files(root: Path) -> Iterator[str]:
    """The files under `root` that may be images, relative to it. Raises `DataError` for a folder it cannot list."""

    def refuse(error: OSError) -> None:
        raise DataError(f"the folder {error.filename} cannot be listed ({error.strerror})") from error

    for directory, inner, names in os.walk(root, onerror=refuse):
        inner[:] = [name for name in inner if not name.startswith(".")]
        relative = Path(directory).relative_to(root).as_posix()
        prefix = "" if relative == "." else f"{relative}/"
        yield from (f"{prefix}{name}" for name in names if not ignored_file(name))
