"""A tree of images with one folder per class, as in ImageNet's training set and most custom data sets.

    cats/a.jpg  cats/more/b.png  dogs/c.jpg   ->   ids cats/a, cats/more/b, dogs/c; classes cats, dogs

The order is that of sorted names, or of numbers if all folders are named by one. Class names are in Unicode NFC.
Folders named by WordNet ids get ImageNet's names, and the build says so.
Files often found next to images (hidden files, `Thumbs.db`, `desktop.ini`, texts and tables) are ignored and listed;
of every other file the first bytes decide whether it is an image, whatever its name; a file that is none is a drop,
since it may be an image in a format that is not read, such as .heic.
"""

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from configs.errors import ConfigError, DataError
from data_prep.class_names import alike_names, load_class_list
from data_prep.drops import printable
from data_prep.images import file_fault
from data_prep.prompts import classification_turns
from data_prep.readers.class_options import renamed
from data_prep.readers.folder_levels import deeper_folders, refuse_splits
from data_prep.readers.selection import Selection
from data_prep.records import LazyRecords, Record
from data_prep.sample import Drop, Sample, Source

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif")
IGNORED = frozenset(
    {"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "@eadir", "lost+found", "__pycache__"}
)
WNID_FOLDER = re.compile(r"n\d{8}([_ -].*)?")
TEXT_SUFFIXES = (".txt", ".md", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".html")


@dataclass(frozen=True, slots=True)
class _Item:
    """One file: where it is under the root, its id, and its class (None: it lies in no class folder)."""

    path: str
    id: str
    label: int | None


def read(
    path: Path,
    *,
    prompt: str = "paper",
    class_names: str | None = None,
    names_by: str | None = None,
    rename: Mapping[str, str] | None = None,
    per_class_limit: int | None = None,
    imbalance: float | None = None,
    part: str | None = None,
    test_share: float = 0.2,
    seed: int = 0,
) -> Source:
    """Class folders under `path`, with the question `prompt`.

    `class_names` is a shipped list (`imagenet`) or a file (see `data_prep.class_names`). `names_by` says how a
    folder gets its name from it: `key` (its name is a key of the list, such as a wnid), `order` (n-th folder, n-th
    name), `index` (its name is the class's index from 0, as in ImageNet-V2); or `folder`, without a list: its own
    name is the class name, `_` read as a space. Default: `key` with a list, else `folder`. `rename` maps names of
    classes to those that are used instead. `per_class_limit` keeps that many images per class, chosen by a hash of
    `seed` and id. `imbalance` then makes a long tail, as in CIFAR-10-LT (Cui et al. 2019, arXiv 1901.05555): of K
    folders the k-th keeps the fraction imbalance^(-(k-1)/(K-1)); with 100, the first keeps all images and the last
    one in a hundred. `part` (train,
    test) divides one folder: of each class the fraction `test_share` is the test part, by a hash of `seed` and id.
    """
    selection = Selection(per_class_limit, imbalance, part, test_share, seed)
    folders, outside, ignored = _listing(path)
    if not folders:
        flat = any(re.fullmatch(r".*_n\d{8}\.\w+", name) for name in outside)
        hint = "; names such as n01440764_10026_n01440764.JPEG are read by the reader imagenet_flat" if flat else ""
        raise DataError(f"{path} has no class folders; the images of class cat belong in {path / 'cat'}{hint}")
    wrong = next((name for name in folders if printable(name) != name), None)
    if wrong is not None:
        raise DataError(f"the name of the class folder {path / printable(wrong)} is not UTF-8; rename it")
    refuse_splits(path, folders)
    folders = _numbered(folders, names_by)
    names, labels, notes = _recognised(folders) if class_names is None and names_by is None else (None, {}, ())
    if names is None:
        names, labels = _classes(folders, class_names, names_by or ("key" if class_names else "folder"))
        notes = _numbered_names(folders) if class_names is None else ()
    names = renamed(names, rename or {})
    classification_turns(prompt, names[0])  # raises for an unknown prompt before the folders are listed
    items = []
    for number, folder in enumerate(folders):
        found = _items(path, folder, labels[folder], ignored)
        share = selection.share_of_class(number, len(folders))
        items += selection.of_class(folder, found, share, lambda item: is_image(path, item.path))
    notes += deeper_folders(path, (item.path for item in items))
    items += [_Item(name, name, None) for name in outside]

    def make(index: int) -> Record:
        item = items[index]
        file = path / item.path
        if item.label is None:
            return Drop(item.id, "outside any class folder: an image belongs into a folder of its class", str(file))
        if not item.path.lower().endswith(IMAGE_SUFFIXES) and (fault := _fault(file)):
            return Drop(item.id, fault, str(file))
        name = names[item.label]
        return Sample(
            id=item.id, image=file, label=item.label, label_name=name, turns=classification_turns(prompt, name)
        )

    return Source(names, LazyRecords(make, len(items)), tuple(sorted(map(printable, ignored))), notes)


def _numbered(folders: list[str], names_by: str | None) -> list[str]:
    """The folders by their numbers where all are numbers. Raises `DataError` where the order of names is in doubt."""
    if all(re.fullmatch(r"\d+", name) for name in folders):
        return sorted(folders, key=lambda name: (int(name), name))
    natural = sorted(folders, key=lambda name: [int(number) for number in re.findall(r"\d+", name)])
    stems = {re.sub(r"\d+", "#", name) for name in folders}
    if names_by == "order" and len(stems) == 1 and natural != folders:
        raise DataError(
            f"names_by: order takes folders in the order of their names, and {', '.join(folders[:3])} are numbered"
            " otherwise; use names_by: key with a list {folder: name}, or number them with leading zeros"
        )
    return folders


def _recognised(folders: list[str]) -> tuple[tuple[str, ...] | None, dict[str, int], tuple[str, ...]]:
    """Names for folders that are WordNet ids ("n01440764", "n01440764_tench"), if all are; else None."""
    if not all(WNID_FOLDER.fullmatch(name) for name in folders):
        return None, {}, ()
    imagenet = load_class_list("imagenet")
    unknown = [name for name in folders if name[:9] not in imagenet.by_key]
    if unknown:
        raise DataError(
            f"the folders are named by WordNet ids, and {len(unknown)} of {len(folders)} are none of ImageNet-1k's"
            f" ({', '.join(unknown[:3])}); give class_names, a JSON file of {{id: name}}, or names_by: folder to"
            " keep the ids as names"
        )
    names = tuple(imagenet.names[imagenet.by_key[name[:9]]] for name in folders)
    note = f"{len(folders)} folders are named by WordNet ids: classes have ImageNet's names ({folders[0]}: {names[0]})"
    return names, {name: index for index, name in enumerate(folders)}, (note,)


def _numbered_names(folders: list[str]) -> tuple[str, ...]:
    """A note where folders are numbers or WordNet ids, or all begin with a number ("001.Black_footed_Albatross")."""
    codes = [name for name in folders if re.fullmatch(r"\d+|n\d{8}", name)]
    if codes:
        return (
            f"{len(codes):,} of {len(folders):,} class folders are numbers or WordNet ids ({', '.join(codes[:3])}), "
            "which become the class names; for other names give class_names, a list in the order of the folders, and "
            "names_by: order",
        )
    if len(folders) < 2 or not all(re.fullmatch(r"\d+[ ._-]+[^\W\d].*", name) for name in folders):
        return ()
    return (
        f"the class folders begin with numbers ({folders[0]}), which are a part of the class names; for other names "
        "give class_names, a JSON file of {folder: name}",
    )


def _visible(name: str) -> bool:
    return not name.startswith(".") and name.lower() not in IGNORED


def _fault(file: Path) -> str | None:
    """Why a file without the name of an image is none; None if its content is one."""
    if file.is_dir():
        return "a link to a folder: links are not followed, move the images here"
    fault = file_fault(file)
    if fault is None or fault.startswith("format not read"):
        return fault
    return f"not an image file: its name ends in {file.suffix or 'no suffix'}"


def is_image(root: Path, file: str) -> bool:
    """Whether a file below `root` has the name of an image, or the content of one."""
    return file.lower().endswith(IMAGE_SUFFIXES) or file_fault(root / file) is None


def ignored_file(name: str) -> bool:
    """Whether a file is one of those often found next to images, which need not be an image."""
    return not _visible(name) or name.lower().endswith(TEXT_SUFFIXES)


def _counts(file: str) -> bool:
    return not ignored_file(file)


def _listing(root: Path) -> tuple[list[str], list[str], list[str]]:
    """(class folders, files next to them that belong into a class folder, ignored files), each in sorted order."""
    try:
        with os.scandir(root) as entries:
            listed = sorted((entry.name, entry.is_dir()) for entry in entries)
    except OSError as error:
        _refuse(error)
    folders = [name for name, is_folder in listed if is_folder and _visible(name)]
    outside = [name for name, is_folder in listed if not is_folder and _counts(name)]
    kept = {*folders, *outside}
    return folders, outside, [name for name, _ in listed if name not in kept]


def _classes(folders: list[str], class_names: str | None, names_by: str) -> tuple[tuple[str, ...], dict[str, int]]:
    """(class names, label of each folder)."""
    if names_by == "folder":
        if class_names is not None:
            raise ConfigError(
                "names_by: folder takes names from the folders; leave class_names out, or use key or order"
            )
        names = tuple(unicodedata.normalize("NFC", name.replace("_", " ")) for name in folders)
        alike, times = set(alike_names(names)), Counter(names)
        twice = [folder for folder, name in zip(folders, names, strict=True) if name in alike or times[name] > 1]
        if twice:
            raise DataError(
                f"the class folders {', '.join(map(repr, twice[:4]))} differ in case, spaces, `_` or Unicode form only;"
                " are they one class? Merge or rename them"
            )
        return names, {name: i for i, name in enumerate(folders)}
    if names_by not in ("key", "order", "index"):
        raise ConfigError(f"names_by is {names_by!r}; choose one of: folder, key, order, index")
    if class_names is None:
        raise ConfigError(f"names_by: {names_by} needs class_names: a shipped list such as imagenet, or a file")
    classes = load_class_list(class_names)
    if names_by == "index":
        return classes.names, _indexes(folders, len(classes.names), class_names)
    if names_by == "order":
        if len(folders) != len(classes.names):
            raise DataError(
                f"{len(folders)} class folders, but class_names {class_names} has {len(classes.names)} names; with"
                f" names_by: order they must be equally many"
            )
        return classes.names, {name: i for i, name in enumerate(folders)}
    unknown = [name for name in folders if name not in classes.by_key]
    if unknown:
        raise DataError(
            f"{len(unknown)} of {len(folders)} folders are no key of class_names {class_names}:"
            f" {', '.join(unknown[:3])}; "
            + (
                f"its keys look like {', '.join(classes.keys[:3])}"
                if classes.keys
                else "it is a list without keys; names_by: order takes folders in their order, or write {folder: name}"
            )
            + ("; names_by: index takes a folder's number as class index" if all(map(str.isdigit, unknown)) else "")
        )
    return classes.names, {name: classes.by_key[name] for name in folders}


def _indexes(folders: list[str], classes: int, class_names: str) -> dict[str, int]:
    """Folder to class index, its own name. Raises `DataError` for another name, a number too high, or one twice."""
    wrong = [name for name in folders if not re.fullmatch(r"[0-9]+", name) or int(name) >= classes]
    if wrong:
        raise DataError(
            f"{len(wrong)} of {len(folders)} folders are no class index of class_names {class_names}, a number from 0"
            f" to {classes - 1}: {', '.join(wrong[:3])}; rename or remove them, or use names_by: key or order"
        )
    twice = next((name for name, times in Counter(map(int, folders)).items() if times > 1), None)
    if twice is not None:
        raise DataError(f"two folders are the class index {twice}, with and without leading zeros; merge them")
    return {name: int(name) for name in folders}


def _items(root: Path, folder: str, label: int, ignored: list[str]) -> list[_Item]:
    """The files of one class in order; what does not count joins `ignored`."""
    files = []
    for directory, inner, names in os.walk(root / folder, onerror=_refuse):
        relative = Path(directory).relative_to(root).as_posix()
        ignored += [f"{relative}/{name}" for name in inner if not _visible(name)]
        inner[:] = [name for name in inner if _visible(name)]
        files += [f"{relative}/{name}" for name in inner if os.path.islink(f"{directory}/{name}")]  # noqa: PTH114
        for name in names:
            (files if _counts(name) else ignored).append(f"{relative}/{name}")  # a million paths joined are 10 s
    files.sort()
    stems = [_stem(file) for file in files]
    times = Counter(stems)
    return [_Item(file, stem if times[stem] == 1 else file, label) for file, stem in zip(files, stems, strict=True)]


def _refuse(error: OSError) -> NoReturn:
    """Stop at a folder that cannot be listed; `os.walk` alone would skip its images."""
    raise DataError(
        f"the folder {error.filename} cannot be listed ({error.strerror}); fix the path, the storage or its permissions"
    ) from error


def _stem(path: str) -> str:
    """The path without its last suffix; the id, unless two files differ by suffix alone."""
    folder, slash, name = path.rpartition("/")
    stem = name.rpartition(".")[0]
    return f"{folder}{slash}{stem}" if stem else path
