"""Stanford Cars: cars_train/, cars_test/ and the annotations of its devkit (classes 1 to 196, in the list's order).

The test annotations with classes are in a separate file, cars_test_annos_withlabels.mat, which the devkit lacks;
the one inside the devkit, cars_test_annos.mat, has boxes only. Names have the year first, as in the paper.
"""

from pathlib import Path

from configs.errors import ConfigError, DataError
from data_prep.class_names import load_class_list
from data_prep.prompts import classification_turns
from data_prep.readers.matlab import load_mat
from data_prep.records import LazyRecords
from data_prep.sample import Sample, Source

ANNOTATIONS = {"train": "cars_train_annos.mat", "test": "cars_test_annos_withlabels.mat"}


def read(path: Path, *, split: str, prompt: str = "paper") -> Source:
    """Images of one `split` (train: 8,144, test: 8,041) in the order of the annotations; boxes are not used."""
    if split not in ANNOTATIONS:
        raise ConfigError(f"split is {split!r}; choose one of: {', '.join(ANNOTATIONS)}")
    name = ANNOTATIONS[split]
    file = path / "devkit" / name if (path / "devkit" / name).is_file() else path / name
    (annotations,) = load_mat(file, "annotations")
    if not {"fname", "class"} <= set(annotations.dtype.names or ()):
        raise DataError(f"{file} has no classes; the test classes are in cars_test_annos_withlabels.mat")
    rows = [(str(row["fname"]), int(row["class"]) - 1) for row in annotations]
    names = load_class_list("stanford_cars").names

    def make(index: int) -> Sample:
        image, label = rows[index]
        return Sample(
            id=f"{split}/{Path(image).stem}",
            image=path / f"cars_{split}" / image,
            label=label,
            label_name=names[label],
            turns=classification_turns(prompt, names[label]),
        )

    return Source(names, LazyRecords(make, len(rows)))
