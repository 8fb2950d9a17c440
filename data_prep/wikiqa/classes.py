"""The classes that questions are about, each with an id that is unique even where two classes share a name."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from data_prep.class_names import ClassList, folded_name


@dataclass(frozen=True, slots=True)
class WikiClass:
    """A class: its id (the key, such as a wnid, or its index), index, name, and the titles to look for.

    `titles` are its name and synonyms, without those that another class has, too: with them it would not be known
    which of the two a page is about.
    """

    id: str
    index: int
    name: str
    titles: tuple[str, ...]


def wiki_classes(classes: ClassList) -> list[WikiClass]:
    """The classes of a list, in its order.

    >>> [(c.id, c.titles) for c in wiki_classes(ClassList(("crane", "crane", "tench"), ("n1", "n2", "n3")))]
    [('n1', ()), ('n2', ()), ('n3', ('tench',))]
    """
    digits = len(str(max(0, len(classes.names) - 1)))
    known = []
    for index, name in enumerate(classes.names):
        names = (name, *(classes.synonyms[index] if classes.synonyms else ()))
        known.append({folded_name(title): title for title in reversed(names)})
    times = Counter(title for titles in known for title in titles)
    first = Counter(map(folded_name, classes.names))
    found = []
    for index, name in enumerate(classes.names):
        own = [
            title
            for key, title in reversed(known[index].items())
            if times[key] == 1 or (key == folded_name(name) and first[key] == 1)
        ]
        key = classes.keys[index] if classes.keys else f"{index:0{digits}d}"
        found.append(WikiClass(key, index, name, tuple(own)))
    return found


def limited(classes: Sequence[WikiClass], limit: int | None, seed: int) -> list[WikiClass]:
    """The `limit` classes that a hash puts first, in their order; all without a limit."""
    ranked = sorted(classes, key=lambda one: sha256(f"{seed}:class {one.id}".encode()).digest())
    chosen = {one.id for one in ranked[:limit]}
    return [one for one in classes if one.id in chosen]
