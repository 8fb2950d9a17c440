"""Food-101: images/apple_pie/1005649.jpg, meta/train.txt and meta/test.txt with lines `apple_pie/1005649`.

Of each of the 101 classes 750 images are for training, with wrong labels among them on purpose, and 250 for the test.
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


def read(path: Path, *, split: str, prompt: str = "paper") -> Source:
    """Dishes of one `split` (train: 75,750, test: 25,250); `path` is food-101/, or the folder that holds it."""
    choose("split", split, ("train", "test"))
    root = folder_with(path, "meta", ("food-101",), "Food-101")
    classes = load_class_list("food101")
    list_file = root / "meta" / f"{split}.txt"
    images = [
        ListedImage(line, f"{line.text}.jpg", class_of(line, line.text.partition("/")[0], classes, classes.by_key))
        for line in list_lines(list_file)
    ]
    return listed_source(images, list_file, root / "images", classes, prompt)
