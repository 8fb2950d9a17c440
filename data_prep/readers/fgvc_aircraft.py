"""FGVC-Aircraft 2013b: data/images/1514522.jpg, data/images_variant_{train,val,trainval,test}.txt.

A line is `1514522 707-320`: a number, then the variant, which may have spaces ("Boeing 717") and slashes ("F-16A/B").
The 100 variants are the classes; manufacturers and families are not read. The lowest 20 rows of pixels of every image
are a banner with the photographer's name, which is kept.
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
    """Aircraft of one `split` (train: 3,334, val: 3,333, trainval, test: 3,333), each with its variant."""
    choose("split", split, ("train", "val", "trainval", "test"))
    name = f"images_variant_{split}.txt"
    root = folder_with(path, name, ("data", "fgvc-aircraft-2013b/data"), "FGVC-Aircraft")
    classes = load_class_list("fgvc_aircraft")
    numbers = {variant: index for index, variant in enumerate(classes.names)}
    images = []
    for line in list_lines(root / name):
        number, _, variant = line.text.partition(" ")
        images.append(ListedImage(line, f"{number}.jpg", class_of(line, variant.strip(), classes, numbers)))
    return listed_source(images, root / name, root / "images", classes, prompt)
