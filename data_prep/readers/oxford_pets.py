"""Oxford-IIIT Pet: images/Abyssinian_1.jpg, annotations/{trainval,test}.txt with lines `Abyssinian_1 1 1 1`.

The numbers are the breed (1 to 37), the species, and the breed within its species. The file's name says the breed too,
and the two must agree. Lines that begin with # are comments.
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
    number_of,
)
from data_prep.sample import Source


def read(path: Path, *, split: str, prompt: str = "paper") -> Source:
    """Cats and dogs of one `split` (trainval: 3,680, test: 3,669)."""
    choose("split", split, ("trainval", "test"))
    root = folder_with(path, "annotations", ("oxford-iiit-pet", "oxford_pets"), "Oxford-IIIT Pet")
    classes = load_class_list("oxford_pets")
    by_breed = {key.lower(): index for index, key in enumerate(classes.keys)}
    list_file = root / "annotations" / f"{split}.txt"
    images = []
    for line in list_lines(list_file):
        if line.text.startswith("#"):
            continue
        name, *numbers = line.text.split()
        if len(numbers) != 3:
            raise line.error("a line has a file's name and three numbers: breed, species, breed within the species")
        label = number_of(line, numbers[0], classes)
        named = class_of(line, name.rpartition("_")[0].lower(), classes, by_breed)
        if named != label:
            raise line.error(f"the number {label + 1} is {classes.names[label]!r}; the file's name says another breed")
        images.append(ListedImage(line, f"{name}.jpg", label))
    return listed_source(images, list_file, root / "images", classes, prompt)
