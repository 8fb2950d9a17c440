"""Oxford Flowers 102: jpg/image_00001.jpg ..., imagelabels.mat (labels 1 to 102), setid.mat (the split).

setid.mat calls 1,020 images `trnid`, 1,020 `valid` and 6,149 `tstid`; some code uses the largest as training set. The
paper trains on trnid + valid (2,040) and tests on tstid (6,149); so do `train` and `test` here, and
`official_train` and `validation` are the two halves of `train`.
"""

from pathlib import Path

import numpy as np

from configs.errors import ConfigError
from data_prep.class_names import load_class_list
from data_prep.prompts import classification_turns
from data_prep.readers.matlab import load_mat
from data_prep.records import LazyRecords
from data_prep.sample import Sample, Source

SPLITS = {
    "train": ("trnid", "valid"),
    "test": ("tstid",),
    "official_train": ("trnid",),
    "validation": ("valid",),
}


def read(path: Path, *, split: str, prompt: str = "paper") -> Source:
    """Images of one `split` (train, test, official_train, validation) in order of their numbers."""
    if split not in SPLITS:
        raise ConfigError(f"split is {split!r}; choose one of: {', '.join(SPLITS)}")
    names = load_class_list("flowers102").names
    (labels,) = load_mat(path / "imagelabels.mat", "labels")
    numbers = np.sort(np.concatenate(load_mat(path / "setid.mat", *SPLITS[split])))

    def make(index: int) -> Sample:
        file = f"image_{numbers[index]:05d}"
        label = int(labels[numbers[index] - 1]) - 1
        return Sample(
            id=file,
            image=path / "jpg" / f"{file}.jpg",
            label=label,
            label_name=names[label],
            turns=classification_turns(prompt, names[label]),
        )

    return Source(names, LazyRecords(make, len(numbers)))
