"""Trees of names: which name is a kind of which, from WordNet's files or a small JSON file.

    tree = load_class_tree("cifar10")               # shipped in data_prep/class_trees/
    tree.nodes("beagle")                            # ("beagle",)
    tree.above(tree.nodes("beagle"))                # {"hound": 1, "dog": 2, "canine": 3, ...}: node to distance

A source is a folder with WordNet's data.noun and index.noun, whose nodes are synsets (n02088364); a JSON file
{name: [names of its parents]}, whose nodes are the names; or the name of a shipped tree. A JSON file may write several
names of one node as "automobile, car": parents are named by the first.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from configs.errors import DataError
from data_prep.class_names import SHIPPED, WORDNET_ID, composed, load_class_list, unique_object
from data_prep.wordnet_synonyms import WordNetNouns

TREES = Path(__file__).with_name("class_trees")


@dataclass(frozen=True)
class ClassTree:
    """Nodes with their names and parents; `senses` maps a name in lower case to its nodes, the most frequent first.

    `source` is where the tree is from, `digest` identifies its content; `wordnet` says that nodes are synsets.
    """

    source: str
    digest: str
    names: Mapping[str, tuple[str, ...]]
    parents: Mapping[str, tuple[str, ...]]
    senses: Mapping[str, list[str]] = field(repr=False)
    wordnet: bool = False

    @cached_property
    def children(self) -> Mapping[str, list[str]]:
        """Node to the nodes right below it."""
        found: dict[str, list[str]] = {}
        for node, parents in self.parents.items():
            for parent in parents:
                found.setdefault(parent, []).append(node)
        return found

    def nodes(self, name: str) -> tuple[str, ...]:
        """All nodes of this name, in any case, also written with `-` or `_` for a blank."""
        plain = name.lower().replace("_", " ")
        forms = dict.fromkeys((plain, plain.replace("-", " "), plain.replace(" ", "-")))
        return tuple(dict.fromkeys(node for form in forms for node in self.senses.get(form, ())))

    def above(self, nodes: Iterable[str]) -> dict[str, int]:
        """Every node above one of `nodes`, to its smallest distance from them."""
        return _reach(nodes, self.parents)

    def below(self, nodes: Iterable[str]) -> dict[str, int]:
        """Every node below one of `nodes`, to its smallest distance from them."""
        return _reach(nodes, self.children)


def _reach(nodes: Iterable[str], edges: Mapping[str, Iterable[str]]) -> dict[str, int]:
    found: dict[str, int] = {}
    level, distance = list(dict.fromkeys(nodes)), 0
    start = set(level)
    while level:
        distance += 1
        level = [node for node in dict.fromkeys(n for one in level for n in edges.get(one, ())) if node not in found]
        level = [node for node in level if node not in start]
        found |= dict.fromkeys(level, distance)
    return found


def load_class_tree(source: str) -> ClassTree:
    """The tree in `source`, one of the forms above.

    Raises `DataError` for a source that is not there, another form, a parent that is no entry, or a name above itself.
    """
    path = Path(source).expanduser()
    shipped = TREES / f"{source}.json"
    if path.is_dir():
        nouns = WordNetNouns.read(path)
        names = {synset: lemmas for synset, (lemmas, _) in nouns.synsets.items()}
        digest = hashlib.sha256((path / "data.noun").read_bytes()).hexdigest()
        return ClassTree(source, digest, names, nouns.parents, nouns.senses, wordnet=True)
    path = path if path.is_file() else shipped
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in TREES.glob("*.json")))
        raise DataError(
            f"no tree {source!r}: it is neither a folder with WordNet's data.noun, nor a JSON file, nor shipped "
            f"({known})"
        )
    data = path.read_bytes()
    try:
        names, parents = _nodes(composed(json.loads(data.decode("utf-8-sig"), object_pairs_hook=unique_object)))
    except ValueError as error:
        raise DataError(f"{path} is no tree {{name: [names of its parents]}}: {error}") from error
    senses: dict[str, list[str]] = {}
    for node, spoken in names.items():
        for name in spoken:
            senses.setdefault(name.lower().replace("_", " "), []).append(node)
    return ClassTree(source, hashlib.sha256(data).hexdigest(), names, parents, senses)


def _nodes(values: object) -> tuple[dict[str, tuple[str, ...]], dict[str, tuple[str, ...]]]:
    """(names, parents) of each node. Raises `ValueError` for another form, an unknown parent, or a circle."""
    if not isinstance(values, dict) or not values:
        raise ValueError("it is not an object with names")
    found: dict[str, tuple[str, ...]] = {}
    names: dict[str, tuple[str, ...]] = {}
    for key, given in values.items():
        spoken = tuple(part.strip() for part in key.split(","))
        name = spoken[0]
        if name in names:
            raise ValueError(f"{name!r} occurs twice")
        parents = [given] if isinstance(given, str) else given
        if not isinstance(parents, list) or not all(isinstance(parent, str) for parent in parents):
            raise ValueError(f"the parents of {name!r} are {given!r}, not a list of names")
        if not all(spoken):
            raise ValueError("a name is empty")
        names[name], found[name] = spoken, tuple(parents)
    for name, above in found.items():
        if unknown := [parent for parent in above if parent not in found]:
            raise ValueError(f"the parent {unknown[0]!r} of {name!r} is no entry; add it with its own parents, or []")
    for name, above in found.items():
        if name in _reach(above, found) or name in above:
            raise ValueError(f"{name!r} is above itself")
    return names, found


def synsets_of_classes(classes: str) -> dict[str, str]:
    """Class name to its synset, as far as the class list `classes` says it: by keys that are WordNet ids or `synsets`.

    Two classes of one name have none: the name alone does not say which is meant. Raises `DataError` as
    `load_class_list`.
    """
    listed = load_class_list(classes)
    keys: list[str | None] = list(listed.keys)
    if not keys and (SHIPPED / f"{classes}.json").is_file():
        keys = json.loads((SHIPPED / f"{classes}.json").read_text(encoding="utf-8")).get("synsets", [])
    if len(keys) != len(listed.names):
        return {}
    times = Counter(listed.names)
    pairs = zip(listed.names, keys, strict=True)
    return {name: key for name, key in pairs if key and WORDNET_ID.fullmatch(key) and times[name] == 1}
