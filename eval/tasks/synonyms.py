"""Other names that are accepted for a class: from a JSON file, or from a class list that has synonyms."""

import json
from pathlib import Path

from configs.errors import DataError
from data_prep.class_names import SHIPPED, load_class_list


def load_synonyms(source: str, classes: str | None = None) -> dict[str, tuple[str, ...]]:
    """Class name to the other names accepted for it: a JSON file {name: [names]}, or a class list with synonyms.

    `imagenet` is such a list (WordNet's, as in the paper's Table 8). `auto` takes those of the list `classes`, and none
    if it has none. Two classes of one name share their synonyms. Raises `DataError` for a missing file or another form.
    """
    if source == "auto":
        if classes is None or not load_class_list(classes).synonyms:
            return {}
        source = classes
    path = Path(source).expanduser()
    if not path.is_file() and not (SHIPPED / f"{source}.json").is_file():
        raise DataError(f"no synonyms {source}: neither a file nor a shipped class list; set protocol.synonyms")
    if path.is_file():
        try:
            values = json.loads(path.read_text(encoding="utf-8-sig"))
            if isinstance(values, dict) and "names" not in values:
                return {name: _texts(name, names) for name, names in values.items()}
        except ValueError as error:
            raise DataError(f"{source} is no synonyms file {{class name: [accepted names]}}: {error}") from error
    known = load_class_list(source)
    if not known.synonyms:
        raise DataError(f"the class list {source} has no synonyms; give a JSON file {{class name: [accepted names]}}")
    merged: dict[str, tuple[str, ...]] = {}
    for name, names in zip(known.names, known.synonyms, strict=True):
        merged[name] = (*merged.get(name, ()), *(other for other in names if other != name))
    return merged


def _texts(name: str, names: object) -> tuple[str, ...]:
    if not isinstance(names, list) or not all(isinstance(text, str) and text.strip() for text in names):
        raise ValueError(f"the names of {name!r} are {names!r}, not a list of texts")
    return tuple(names)
