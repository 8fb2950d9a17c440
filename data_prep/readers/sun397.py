"""SUN397: SUN397/a/abbey/sun_aaalbzqrimafwbiv.jpg, Training_01.txt and Testing_01.txt up to 10.

A line is a path from the folder of images on, `/a/abbey/sun_aaalbzqrimafwbiv.jpg`; the class is the folder, which may
have three parts (`/a/apartment_building/outdoor`). The lists are a separate download (Partitions.zip), which may be
unpacked next to the folder SUN397 or into it.
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

LISTS = {"train": "Training", "test": "Testing"}


def read(path: Path, *, split: str, partition: int = 1, prompt: str = "paper") -> Source:
    """Scenes of one `split` (train, test: 19,850 images each) of `partition` 1 to 10."""
    choose("split", split, tuple(LISTS))
    choose("partition", partition, tuple(range(1, 11)))
    name = f"{LISTS[split]}_{partition:02d}.txt"
    list_file = folder_with(path, name, ("SUN397", "Partitions", "SUN397/Partitions"), "SUN397") / name
    root = folder_with(path, "a", ("SUN397",), "SUN397")
    classes = load_class_list("sun397")
    images = [
        ListedImage(line, line.text.lstrip("/"), class_of(line, _folder(line.text), classes, classes.by_key))
        for line in list_lines(list_file)
    ]
    return listed_source(images, list_file, root, classes, prompt)


def _folder(text: str) -> str:
    return "/" + text.lstrip("/").rpartition("/")[0]
