"""Names for classes whose own name the small base model cannot write: without accents and punctuation marks.

>>> plain_name("Käfer & Co. (Straße)", 3)
'Kafer Co Strasse'
>>> plain_name("日本", 3)
'class 3'
"""

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

from data_prep.spelling import changed_names
from launch.run_name import LETTERS


def writable_names(model: Path, names: Sequence[str]) -> dict[str, str]:
    """Those of `names` that the model in the folder `model` cannot write, to names that it can; each is another one.

    A name for which there is none, since another class has it, is left as it is.
    """
    found: dict[str, str] = {}
    for name in changed_names(model, names):
        plain = plain_name(name, names.index(name) + 1)
        taken = {other.casefold() for other in (*names, *found.values())}
        if plain.casefold() not in taken and not changed_names(model, [plain]):
            found[name] = plain
    return found


def plain_name(name: str, number: int) -> str:
    """`name` in unaccented letters and digits; `class NUMBER` if it has none."""
    letters = unicodedata.normalize("NFKD", name.translate(LETTERS))
    kept = "".join(letter for letter in letters if not unicodedata.combining(letter))
    return " ".join(re.findall(r"[A-Za-z0-9]+", kept)) or f"class {number}"


def rename_settings(names: Mapping[str, str], counts: Mapping[str, Mapping[str, int]]) -> list[str]:
    """The new names as settings of each source, of those classes that it has; `counts` are its classes by name."""
    settings = []
    for source, classes in counts.items():
        own = {name: new for name, new in names.items() if name in classes}
        if own:
            settings.append(f"data.sources.{source}.options.rename={json.dumps(own, ensure_ascii=False)}")
    return settings
