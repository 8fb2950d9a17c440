"""Classes that have a parent in common in a tree of names, such as WordNet's."""

from collections.abc import Sequence

from configs.errors import DataError
from data_prep.class_names import first_indices, load_class_list
from data_prep.class_tree import load_class_tree, synsets_of_classes
from eval.class_scores.neighbours import Neighbours


def siblings(source: str, classes: str) -> Neighbours:
    """The siblings of every class of the list `classes` in the tree `source`, in the order of the list.

    A class is at the synset that its list names, else at the node of its name; a name with several nodes has none, as
    the tree does not say which is meant. Raises `DataError` if no class has siblings, or as `load_class_tree`.
    """
    tree, names = load_class_tree(source), load_class_list(classes).names
    stated = synsets_of_classes(classes) if tree.wordnet else {}
    first = first_indices(names)
    parents: dict[str, Sequence[str]] = {}
    below: dict[str, set[int]] = {}
    for name, index in first.items():
        nodes = (stated[name],) if name in stated else tree.nodes(name)
        parents[name] = tree.parents.get(nodes[0], ()) if len(nodes) == 1 else ()
        for parent in parents[name]:
            below.setdefault(parent, set()).add(index)
    found = {
        name: sorted({index for parent in own for index in below[parent]} - {first[name]})
        for name, own in parents.items()
    }
    if not any(found.values()):
        raise DataError(
            f"no two of the {len(parents):,} classes of {classes} have a parent in common in the tree {source}; give a "
            "tree that has their names, or a class list with WordNet ids"
        )
    return Neighbours("siblings", names, found, {"tree": source, "digest": tree.digest, "classes": classes})
