"""Images that a published list names, a line an image, such as `abbey/1.jpg` or `1514522 707-320`.

    lines = list_lines(path / "meta" / "test.txt")                          # [ListLine(1, "apple_pie/1005649"), ...]
    images = [ListedImage(line.number, f"{line.text}.jpg", label), ...]
    source = listed_source(images, list_file, path / "images", classes, prompt)

Blank lines, Windows line ends and a byte-order mark do not matter, nor does a suffix in upper case (1005649.JPG). A
line that is no image of the list's form, an unknown class and an image listed twice are errors with the line's number;
a missing image is a drop.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from configs.errors import ConfigError, DataError
from data_prep.class_names import ClassList
from data_prep.prompts import classification_turns
from data_prep.readers.file_content import read_text
from data_prep.records import LazyRecords, Record
from data_prep.sample import Drop, Sample, Source

MAX_SHOWN = 60  # characters of a line in a message


@dataclass(frozen=True, slots=True)
class ListLine:
    """A line of a list that is not blank; `number` counts from 1, blank lines included."""

    file: Path
    number: int
    text: str

    def error(self, what: str) -> DataError:
        """An error that names file, line and text."""
        return DataError(f"{self.file}, line {self.number} ({self.text[:MAX_SHOWN]!r}): {what}")


@dataclass(frozen=True, slots=True)
class ListedImage:
    """An image of a list: its file, relative to the folder of images, and its class."""

    line: ListLine
    file: str
    label: int

    @property
    def stem(self) -> str:
        """The file without its suffix: the id, unless two files differ by suffix alone."""
        folder, slash, name = self.file.rpartition("/")
        return f"{folder}{slash}{name.rpartition('.')[0] or name}"


def list_lines(file: Path) -> list[ListLine]:
    """The lines of `file` that are not blank, stripped. Raises `DataError` for a missing file, or one without lines."""
    lines = [ListLine(file, number, text.strip()) for number, text in enumerate(read_text(file).split("\n"), 1)]
    return [line for line in lines if line.text]


def choose(option: str, value: object, choices: Sequence[object]) -> None:
    """Raise `ConfigError` for an option's value that is none of `choices`."""
    if value not in choices or isinstance(value, bool):
        raise ConfigError(f"{option} is {value!r}; choose one of: {', '.join(map(str, choices))}")


def folder_with(path: Path, marker: str, inside: Sequence[str], data_set: str) -> Path:
    """`path`, or the folder of a name in `inside` below it, whichever has `marker`. Raises `DataError` for none."""
    for folder in (path, *(path / name for name in inside)):
        if (folder / marker).exists():
            return folder
    below = f", nor does {path / inside[0]}" if inside else ""
    raise DataError(f"{path} does not have {marker}{below}; set path to the unpacked folder of {data_set}")


def class_of(line: ListLine, name: str, classes: ClassList, numbers: Mapping[str, int]) -> int:
    """The class that `numbers` gives to `name`. Raises `DataError` with the line for an unknown one."""
    if name not in numbers:
        known = ", ".join(list(numbers)[:3])
        raise line.error(
            f"the class {name[:MAX_SHOWN]!r} is none of the {len(classes.names)} of this data set ({known}, ...)"
        )
    return numbers[name]


def number_of(line: ListLine, text: str, classes: ClassList) -> int:
    """The class of a number from 1. Raises `DataError` with the line for one that is no number or out of range."""
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= len(classes.names):
        raise line.error(f"the class is {text[:MAX_SHOWN]!r}; it must be a number from 1 to {len(classes.names)}")
    return int(text) - 1


def listed_source(
    images: Iterable[ListedImage], list_file: Path, root: Path, classes: ClassList, prompt: str
) -> Source:
    """The images below the folder `root`, in the order of their list.

    Raises `DataError` for an empty list, an image that is listed twice, a path that leaves `root`, or a missing `root`.
    """
    found: dict[str, ListedImage] = {}
    for image in images:
        first = found.setdefault(PurePosixPath(image.file).as_posix(), image)
        if first is not image:
            names = classes.names[first.label], classes.names[image.label]
            what = f"as {names[0]!r} and as {names[1]!r}" if first.label != image.label else f"both as {names[0]!r}"
            where = f"line {first.line.number} of {first.line.file}"
            raise image.line.error(f"this image is in {where} already, {what}; remove one of the lines")
        if image.file.startswith(("/", "~")) or ".." in image.file.split("/") or "\\" in image.file:
            raise image.line.error(f"images are named relative to {root}, with / and without ..")
    if not found:
        raise DataError(f"{list_file} lists no image; is the download complete?")
    if not root.is_dir():
        raise DataError(f"there is no folder {root}, which holds the images of {list_file}; unpack them there")
    ordered = list(found.values())
    make = _maker(ordered, root, classes, prompt)
    return Source(classes.names, LazyRecords(make, len(ordered)))


def _maker(images: Sequence[ListedImage], root: Path, classes: ClassList, prompt: str) -> Callable[[int], Record]:
    classification_turns(prompt, classes.names[0])  # raises for an unknown prompt
    times = Counter(image.stem for image in images)

    def make(index: int) -> Record:
        image = images[index]
        name, key = classes.names[image.label], image.stem if times[image.stem] == 1 else image.file
        file = present(root / image.file)
        if file is None:
            return Drop(key, f"missing file: {image.line.file.name} lists it", str(root / image.file))
        turns = classification_turns(prompt, name)
        return Sample(id=key, image=file, label=image.label, label_name=name, turns=turns)

    return make


def present(file: Path) -> Path | None:
    """`file`, or the file whose suffix differs by case alone; None if neither is there."""
    others = (file.with_suffix(change(file.suffix)) for change in (str.upper, str.lower) if file.suffix)
    return next((found for found in (file, *others) if found.is_file()), None)
