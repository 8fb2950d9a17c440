"""ImageNet (ILSVRC 2012) in the forms it is published in; as class folders, the reader `image_folder` reads it.

Ids and order are those of the class folders, so that shards made from either form hold the same bytes.
"""

import csv
import tarfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from configs.errors import DataError
from data_prep.class_names import load_class_list
from data_prep.file_range import FileRange
from data_prep.prompts import classification_turns
from data_prep.readers.matlab import load_mat
from data_prep.records import LazyRecords, Record
from data_prep.sample import Drop, Sample, Source
from data_prep.tar_index import check_end


def read_train_tar(path: Path, *, prompt: str = "paper", copy: bool = True) -> Source:
    """ILSVRC2012_img_train.tar, a tar of one tar a class, read where it is: nothing is unpacked.

    Without `copy` the shards hold no images and the index points into the tar.
    """
    classes = load_class_list("imagenet")
    images = sorted(_images_of(path, classes.by_key))

    def make(index: int) -> Sample:
        wnid, name, offset, size = images[index]
        label = classes.by_key[wnid]
        return Sample(
            id=f"{wnid}/{name}",
            image=FileRange(path, offset, size, in_place=not copy),
            label=label,
            label_name=classes.names[label],
            turns=classification_turns(prompt, classes.names[label]),
        )

    return Source(classes.names, LazyRecords(make, len(images)))


def read_validation(path: Path, *, ground_truth: str, synsets: str | None = None, prompt: str = "paper") -> Source:
    """The flat folder of ILSVRC2012_val_*.JPEG with `ground_truth`, one of three files.

    LOC_val_solution.csv (Kaggle; wnids), a text of lines `ILSVRC2012_val_00000001.JPEG 65` (labels from 0 in order of
    wnids), or ILSVRC2012_validation_ground_truth.txt: numbers that are NOT in the order of wnids, so it needs
    `synsets`, the devkit's meta.mat. (For class folders take `image_folder` with class_names: imagenet.)
    An image without a ground truth is a drop, and so is a ground truth without an image.
    """
    classes = load_class_list("imagenet")
    labels = _ground_truth(Path(ground_truth), Path(synsets) if synsets else None, classes.by_key)
    names = sorted({*labels, *(file.stem for file in path.glob("*.JPEG"))})

    def make(index: int) -> Record:
        file = path / f"{names[index]}.JPEG"
        label = labels.get(names[index])
        if label is None:
            return Drop(names[index], f"no ground truth: {ground_truth} does not name it", str(file))
        return Sample(
            id=names[index],
            image=file,
            label=label,
            label_name=classes.names[label],
            turns=classification_turns(prompt, classes.names[label]),
        )

    return Source(classes.names, LazyRecords(make, len(names)))


def _images_of(path: Path, by_key: Mapping[str, int]) -> list[tuple[str, str, int, int]]:
    """(wnid, name without suffix, offset, size) of every image in the tar of tars.

    Raises `DataError` if it, or the tar of a class, is damaged or ends too early: `tarfile` alone would find fewer.
    """
    images = []
    try:
        with tarfile.open(path, "r:") as outer:
            for inner in outer:
                wnid = Path(inner.name).stem
                stream = outer.extractfile(inner)
                if stream is None or wnid not in by_key:
                    raise DataError(f"{path}: member {inner.name!r} is not the tar of an ImageNet class")
                with tarfile.open(fileobj=stream, mode="r:") as tar:
                    images += [(wnid, Path(m.name).stem, inner.offset_data + m.offset_data, m.size) for m in tar]
                    check_end(stream, f"{path}, member {inner.name}", tar.offset)
            with path.open("rb") as file:
                check_end(file, str(path), outer.offset)
    except tarfile.TarError as error:
        raise DataError(f"{path} is not a tar of tars ({error}); is the download complete?") from error
    return images


def _ground_truth(file: Path, synsets: Path | None, by_key: Mapping[str, int]) -> dict[str, int]:
    """Image name without suffix to label. Raises `DataError` for a repeated name and for a label out of range."""
    if not file.is_file():
        raise DataError(f"ground_truth {file} does not exist")
    try:
        pairs = _pairs(file, synsets, by_key)
    except (KeyError, ValueError, IndexError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{file} is not a ground truth of ImageNet's validation set: {error}") from error
    labels = dict(pairs)
    if len(labels) < len(pairs):
        twice = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise DataError(f"{file} names the image {twice} twice; is it the ground truth of another set?")
    for name, label in pairs:
        if not 0 <= label < len(by_key):
            raise DataError(f"{file} gives {name} the label {label}; labels are 0 to {len(by_key) - 1}, not from 1")
    return labels


def _pairs(file: Path, synsets: Path | None, by_key: Mapping[str, int]) -> list[tuple[str, int]]:
    """(image name without suffix, label) of every line."""
    lines = file.read_text(encoding="utf-8-sig").split("\n")
    if file.suffix == ".csv":
        return [(row["ImageId"], by_key[row["PredictionString"].split()[0]]) for row in csv.DictReader(lines)]
    rows = [line.split() for line in lines if line.strip()]
    if not rows:
        raise DataError(f"ground_truth {file} is empty")
    if len(rows[0]) == 2:
        return [(Path(name).stem, int(label)) for name, label in rows]
    if synsets is None:
        raise DataError(f"{file} has devkit numbers, which are not in the order of wnids; set synsets to meta.mat")
    (table,) = load_mat(synsets, "synsets")
    wnid_of = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in table}
    return [(f"ILSVRC2012_val_{i:08d}", by_key[wnid_of[int(number)]]) for i, (number,) in enumerate(rows, start=1)]
