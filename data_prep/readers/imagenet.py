"""ImageNet (ILSVRC 2012) in the forms it is published in; as class folders, the reader `image_folder` reads it.

Ids and order are those of the class folders, so that shards made from either form hold the same bytes.
"""

import csv
import tarfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from configs.errors import DataError
from data_prep.class_names import load_class_list
from data_prep.file_range import FileRange
from data_prep.readers.image_folder import WNID_FOLDER, ignored_file, is_image
from data_prep.readers.imagenet_flat import ImageName, image_name, labelled
from data_prep.readers.matlab import load_mat
from data_prep.records import LazyRecords, Record
from data_prep.sample import Drop, Source
from data_prep.tar_index import check_end, left_by_a_system


def read_train_tar(path: Path, *, prompt: str = "paper", copy: bool = True) -> Source:
    """ILSVRC2012_img_train.tar, a tar of one tar a class, read where it is: nothing is unpacked.

    Also read: a tar of images, in class folders or with the class in their names, and a folder of such tars or of one
    tar a class. Without `copy` the shards hold no images and the index points into the tars.
    """
    classes = load_class_list("imagenet")
    tars = [path] if path.is_file() else sorted(path.glob("*.tar"))
    if not tars:
        packed = sorted(file.name for file in path.glob("*.gz"))
        hint = f"; unpack {packed[0]} with gunzip first" if packed else ""
        raise DataError(f"{path} has no .tar{hint}")
    images = sorted(image for tar in tars for image in _images_of(tar, classes.by_key))

    def make(index: int) -> Record:
        sample_id, wnid, tar, offset, size = images[index]
        return labelled(sample_id, wnid, FileRange(tar, offset, size, in_place=not copy), classes, prompt, tar)

    return Source(classes.names, LazyRecords(make, len(images)))


def read_validation(
    path: Path, *, ground_truth: str | None = None, synsets: str | None = None, prompt: str = "paper"
) -> Source:
    """The flat folder of ILSVRC2012_val_*.JPEG with `ground_truth`, one of three files, or with the class in the names.

    LOC_val_solution.csv (Kaggle; wnids), a text of lines `ILSVRC2012_val_00000001.JPEG 65` (labels from 0 in order of
    wnids), or ILSVRC2012_validation_ground_truth.txt: numbers that are NOT in the order of wnids, so it needs
    `synsets`, the devkit's meta.mat. Names such as `ILSVRC2012_val_00000001_n01751748.JPEG` need no ground truth; where
    both say a class they must agree. (For class folders take `image_folder` with class_names: imagenet.)
    An image without a ground truth is a drop, and so is a ground truth without an image.
    """
    classes = load_class_list("imagenet")
    files: dict[str, str] = {}
    wnids: dict[str, str | None] = {}
    listed = sorted(entry.name for entry in path.iterdir() if entry.is_file())
    images = [name for name in listed if not ignored_file(name) and is_image(path, name)]
    ignored = tuple(sorted({*listed} - {*images}))
    for file in images:
        found = image_name(file) or ImageName(Path(file).stem, None)
        if found.id in files:
            raise DataError(f"{path} has the image {found.id} twice: {files[found.id]} and {file}; remove one")
        files[found.id], wnids[found.id] = file, found.wnid
    labels = {name: classes.by_key[wnid] for name, wnid in wnids.items() if wnid is not None and wnid in classes.by_key}
    if not files and any(WNID_FOLDER.fullmatch(entry.name) for entry in path.iterdir()):
        raise DataError(f"{path} holds class folders; read them with image_folder and class_names: imagenet")
    if ground_truth is not None:
        truth = _ground_truth(Path(ground_truth), Path(synsets) if synsets else None, classes.by_key)
        wrong = next((name for name in labels if truth.get(name, labels[name]) != labels[name]), None)
        if wrong is not None:
            raise DataError(
                f"{ground_truth} gives {wrong} the class {classes.keys[truth[wrong]]} and its name says"
                f" {wnids[wrong]}; is it the ground truth of these images?"
            )
        labels |= truth
    elif not labels:
        raise DataError(f"{path} has no image whose name holds its class (a WordNet id); set ground_truth")
    names = sorted({*labels, *files})

    def make(index: int) -> Record:
        name = names[index]
        file = path / files.get(name, f"{name}.JPEG")
        if name not in labels:
            reason = (
                f"{ground_truth} does not name it" if ground_truth else "its name holds no WordNet id of ImageNet's"
            )
            return Drop(name, f"no ground truth: {reason}", str(file))
        return labelled(name, classes.keys[labels[name]], file, classes, prompt)

    return Source(classes.names, LazyRecords(make, len(names)), ignored)


Image = tuple[str, str | None, Path, int, int]  # id, class, tar, offset, size


def _images_of(path: Path, by_key: Mapping[str, int]) -> list[Image]:
    """Every image in a tar of tars, or in a tar of images.

    Raises `DataError` if it, or the tar of a class, is damaged or ends too early: `tarfile` alone would find fewer.
    """
    images: list[Image] = []
    try:
        with tarfile.open(path, "r:") as outer:
            for member in outer:
                if not member.isfile() or _is_no_image(member.name):
                    continue
                if not member.name.endswith(".tar"):
                    images.append(_image(member, path, 0, None, by_key))
                    continue
                stream, wnid = outer.extractfile(member), PurePosixPath(member.name).stem
                if stream is None or wnid not in by_key:
                    raise DataError(f"{path}: member {member.name!r} is not the tar of an ImageNet class")
                with tarfile.open(fileobj=stream, mode="r:") as tar:
                    kept = (inner for inner in tar if inner.isfile() and not _is_no_image(inner.name))
                    images += [_image(inner, path, member.offset_data, wnid, by_key) for inner in kept]
                    check_end(stream, f"{path}, member {member.name}", tar.offset)
            with path.open("rb") as file:
                check_end(file, str(path), outer.offset)
    except tarfile.TarError as error:
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        hint = "it is packed with gzip: unpack it with gunzip" if packed else "is the download complete?"
        raise DataError(f"{path} is not a tar of tars ({error}); {hint}") from error
    return images


def _is_no_image(name: str) -> bool:
    return left_by_a_system(name) or ignored_file(PurePosixPath(name).name)


def _image(member: tarfile.TarInfo, tar: Path, start: int, wnid: str | None, by_key: Mapping[str, int]) -> Image:
    """One member, in the tar of the class `wnid`, in a class folder, or with the class in its name."""
    name = PurePosixPath(member.name)
    named = image_name(name.name)
    folder = next((part for part in reversed(name.parts[:-1]) if part in by_key), None)
    wnid = wnid or folder
    if named is not None and (wnid is None or named.id.startswith(f"{wnid}/")):
        sample_id = named.id if wnid is None or named.wnid == wnid else f"{wnid}/{name.stem}"
        wnid = named.wnid if wnid is None else wnid
    elif wnid is None:
        raise DataError(f"{tar}: member {member.name!r} is not the tar of an ImageNet class, and no image of one")
    else:
        sample_id = f"{wnid}/{name.stem}"
    return sample_id, wnid, tar, start + member.offset_data, member.size


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
        return [(_id(row["ImageId"]), by_key[row["PredictionString"].split()[0]]) for row in csv.DictReader(lines)]
    rows = [line.split() for line in lines if line.strip()]
    if not rows:
        raise DataError(f"ground_truth {file} is empty")
    if len(rows[0]) == 2:
        return [(_id(name), int(label)) for name, label in rows]
    if synsets is None:
        raise DataError(f"{file} has devkit numbers, which are not in the order of wnids; set synsets to meta.mat")
    (table,) = load_mat(synsets, "synsets")
    wnid_of = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in table}
    return [(f"ILSVRC2012_val_{i:08d}", by_key[wnid_of[int(number)]]) for i, (number,) in enumerate(rows, start=1)]


def _id(name: str) -> str:
    """The id of an image by its name in a ground truth."""
    found = image_name(name)
    return found.id if found else Path(name).stem
