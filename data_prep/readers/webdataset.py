"""Tars in the webdataset convention: members 000.jpg, 000.json, 000.txt, 000.cls of one key follow each other.

They may be local or behind URLs: see `data_prep.file_paths` for paths, `data_prep.tar_index` for what is refused.
"""

from data_prep.class_names import ClassList, load_class_list
from data_prep.file_paths import FilePaths
from data_prep.file_range import FileRange
from data_prep.prompts import classification_turns, image_question
from data_prep.readers.json_text import RepeatedKeyError, json_value
from data_prep.readers.label_values import LabelIndex
from data_prep.records import LazyRecords, Record
from data_prep.sample import Drop, Sample, Source, Turn
from data_prep.tar_index import IMAGES
from data_prep.tars import open_tars, text_of


def read(
    path: FilePaths,
    *,
    class_names: str | None = None,
    label_field: str = "cls",
    caption_field: str = "txt",
    question: str = "Describe the image concisely.",
    prompt: str = "paper",
    copy: bool = True,
) -> Source:
    """Tars: a folder, a file, a URL, a pattern such as s3://bucket/{000..099}.tar, or a .txt that lists them.

    With `class_names`, `label_field` holds the class index, a key of the list (a WordNet id) or a name that only one
    class has (as text, or in JSON under "label"); without, the answer to `question` is the text in `caption_field`.
    Without `copy` the shards hold no images: the index points into the
    tars, which must stay where they are.
    """
    classes = load_class_list(class_names) if class_names else ClassList(())
    names, labels = classes.names, LabelIndex(classes)
    tars = open_tars(path)

    def make(index: int) -> Record:
        tar, key, fields = tars.entry(index)
        if isinstance(fields, str):
            return Drop(key, fields, str(tar))
        images = [fields[extension] for extension in IMAGES if extension in fields]
        field = label_field if names else caption_field
        if len(images) != 1 or field not in fields:
            has = ", ".join(fields)
            return Drop(key, f"missing or doubled field: it has {has}; one image and {field} are needed", str(tar))
        image = FileRange(tar, images[0].offset, images[0].size, in_place=not copy)
        try:
            text = text_of(tar, fields[field])
        except UnicodeDecodeError as error:
            byte = f"byte {error.object[error.start]:#04x} at {error.start}"
            return Drop(key, f"not UTF-8: its {field} has {byte}", str(tar))
        if not names and "\0" in text:
            return Drop(key, f"not UTF-8: its {field} has zero bytes, as UTF-16 has them", str(tar))
        if not names:
            return Sample(id=key, image=image, turns=(Turn("human", image_question(question)), Turn("gpt", text)))
        try:
            label = _label(text, labels)
        except ValueError as error:
            return Drop(key, f"unreadable label: {error}", str(tar))
        name = names[label]
        return Sample(id=key, image=image, label=label, label_name=name, turns=classification_turns(prompt, name))

    return Source(names, LazyRecords(make, len(tars)))


def _label(text: str, labels: LabelIndex) -> int:
    """The class index that a label member names. Raises `ValueError` that says what the label is."""
    try:
        value = json_value(text)
    except RepeatedKeyError:
        raise
    except ValueError:
        value = text
    if isinstance(value, dict):
        if "label" not in value:
            raise ValueError(f"its JSON has no 'label'; it has {', '.join(value) or 'nothing'}")
        value = value["label"]
    return labels.of(value)
