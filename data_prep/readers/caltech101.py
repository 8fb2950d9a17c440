"""Caltech 101: 101_ObjectCategories/FOLDER/image_0001.jpg; 101 folders, 100 names, and no official split.

`Faces` and `Faces_easy` are one class, `face`; `BACKGROUND_Google` is none. `split_file` is the paper's list, JSON
lines with image, label and split (train 4,346, test 4,331); only the last two parts of its image paths are used.
"""

from pathlib import Path, PurePosixPath

from configs.errors import ConfigError, DataError
from data_prep.class_names import load_class_list
from data_prep.prompts import classification_turns
from data_prep.readers.records_file import load_rows
from data_prep.records import LazyRecords
from data_prep.sample import Sample, Source

RENAMED = {
    "Faces": "face",
    "Faces_easy": "face",
    "Leopards": "leopard",
    "Motorbikes": "motorbike",
    "airplanes": "airplane",
}
NO_CLASS = "BACKGROUND_Google"


def read(path: Path, *, split: str | None = None, split_file: str | None = None, prompt: str = "paper") -> Source:
    """All images under `path` (101_ObjectCategories, or the folder that holds it), or one `split` of `split_file`."""
    path = path / "101_ObjectCategories" if (path / "101_ObjectCategories").is_dir() else path
    if (split is None) != (split_file is None):
        raise ConfigError(f"split is {split!r} and split_file {split_file!r}; give both or neither")
    if split_file is None:
        files = sorted(
            file.relative_to(path).as_posix() for file in path.glob("*/*.jpg") if file.parent.name != NO_CLASS
        )
    else:
        try:
            images = [row["image"] for row in load_rows(Path(split_file)) if row["split"] == split]
        except KeyError as missing:
            raise DataError(f"{split_file} has a line without {missing}; each has image, label and split") from missing
        files = ["/".join(PurePosixPath(image).parts[-2:]) for image in images]
    if not files:
        raise DataError(
            f"no image of split {split!r} under {path}; it should hold folders such as {path / 'accordion'}"
        )
    names = load_class_list("caltech101").names
    labels = {name: label for label, name in enumerate(names)}

    def make(index: int) -> Sample:
        folder = files[index].partition("/")[0]
        label = labels.get(RENAMED.get(folder, folder.replace("_", " ")), len(names))
        name = names[label] if label < len(names) else folder
        return Sample(
            id=files[index].removesuffix(".jpg"),
            image=path / files[index],
            label=label,
            label_name=name,
            turns=classification_turns(prompt, name),
        )

    return Source(names, LazyRecords(make, len(files)))
