"""UCF101 as images: the middle frame of each video, UCF-101-midframes/Apply_Eye_Makeup/v_ApplyEyeMakeup_g08_c01.jpg.

So CoOp (Zhou et al. 2022) publishes it. The lists are the data set's own: ucfTrainTestlist/trainlist01.txt with lines
`ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1`, testlist01.txt without the number. Videos are not decoded.
"""

import re
from pathlib import Path

from configs.errors import DataError
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

FRAMES = "UCF-101-midframes"


def read(path: Path, *, split: str, partition: int = 1, prompt: str = "paper") -> Source:
    """Middle frames of one `split` (train, test) of `partition` 1 to 3."""
    choose("split", split, ("train", "test"))
    choose("partition", partition, (1, 2, 3))
    root = folder_with(path, "ucfTrainTestlist", ("ucf101", "UCF101"), "UCF101")
    if not (root / FRAMES).is_dir():
        raise DataError(
            f"{root} does not have {FRAMES}; videos are not decoded here: take the middle frame of each with another"
            f" program, as {FRAMES}/Apply_Eye_Makeup/v_ApplyEyeMakeup_g08_c01.jpg, or use the frames published by CoOp"
        )
    classes = load_class_list("ucf101")
    list_file = root / "ucfTrainTestlist" / f"{split}list{partition:02d}.txt"
    images = []
    for line in list_lines(list_file):
        video, *number = line.text.split()
        action, _, file = video.partition("/")
        label = class_of(line, action, classes, classes.by_key)
        if number and number_of(line, number[0], classes) != label:
            raise line.error(f"the number {number[0]} is not that of {action}, {label + 1}; is the list damaged?")
        folder = "_".join(re.findall("[A-Z][^A-Z]*", action))
        images.append(ListedImage(line, f"{folder}/{file.removesuffix('.avi')}.jpg", label))
    return listed_source(images, list_file, root / FRAMES, classes, prompt)
