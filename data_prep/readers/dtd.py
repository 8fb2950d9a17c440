"""Describable Textures (DTD, release 1.0.1): images/banded/banded_0002.jpg, labels/{train,val,test}{1..10}.txt.

Each of the ten partitions divides the 5,640 images into three thirds; papers report partition 1, or the mean of all.
labels_joint_anno.txt, in which an image has several textures, is not read.
"""

from pathlib import Path

from data_prep.class_names import load_class_list
from data_prep.readers.listed_images import (
    ListedImage,
    choose,
    class_of,
    folder_with,
    list_lines,
    listed_source,
)
from data_prep.sample import Source

SPLITS = ("train", "val", "test")
PARTITIONS = tuple(range(1, 11))


def read(path: Path, *, split: str, partition: int = 1, prompt: str = "paper") -> Source:
    """Textures of one `split` (train, val, test) of `partition` 1 to 10; `path` is dtd/ or the folder above."""
    choose("split", split, SPLITS)
    choose("partition", partition, PARTITIONS)
    root = folder_with(path, "labels", ("dtd",), "DTD")
    classes = load_class_list("dtd")
    numbers = {name: index for index, name in enumerate(classes.names)}
    list_file = root / "labels" / f"{split}{partition}.txt"
    images = [
        ListedImage(line, line.text, class_of(line, line.text.partition("/")[0], classes, numbers))
        for line in list_lines(list_file)
    ]
    return listed_source(images, list_file, root / "images", classes, prompt)
