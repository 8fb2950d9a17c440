"""How an answer's name is related to the expected class in a tree of names: the same, above, below, or neither.

    relation = TreeRelation(load_class_tree("cifar10"), classes=("cat", "dog"))
    relation.of("This is a beagle.", ("dog",)).outcome        ->  "too specific"
    relation.of("some animal", ("dog",)).outcome              ->  "too general"
    relation.of("a hot dog", ("cat",)).outcome                ->  "wrong"

Names are found as the scorer `name` finds them: whole words in any usual spelling, not negated, not inside a longer
name of the tree ("hot dog", "tiger cat"). An answer that also names another listed class is wrong.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

from data_prep.class_tree import ClassTree
from data_prep.final_answer import final_answer
from eval.scorers.class_name import REFUSAL, Mention, forms, mentions, words_of

RIGHT, TOO_GENERAL, TOO_SPECIFIC, WRONG, NO_ANSWER = "right", "too general", "too specific", "wrong", "no answer"
TOP = frozenset(
    {
        "entity",
        "physical entity",
        "abstraction",
        "abstract entity",
        "object",
        "physical object",
        "thing",
        "whole",
        "unit",
    }
    | {"matter", "part", "piece", "item", "group", "grouping", "set", "kind", "type", "form", "shape", "being"}
    | {"inanimate object", "causal agent", "cause", "causal agency", "process", "attribute"}
)
"""Names at the top of WordNet, and words that answers use of anything: they say nothing of what is in an image."""
LONGEST = 5  # words of a name that may enclose a shorter one


@dataclass(frozen=True, slots=True)
class Relation:
    """The outcome, the name that decided it, and why. `flags` say what is doubtful of the label."""

    outcome: str
    name: str | None
    why: str
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Family:
    """The names of one class and of its relatives; `distance` counts the steps from the class to a name above it."""

    same: tuple[str, ...]
    above: tuple[str, ...]
    below: tuple[str, ...]
    distance: Mapping[str, int]
    flags: tuple[str, ...]


class TreeRelation:
    """Relates answers to classes. `synsets` maps class names to their nodes where these are known."""

    def __init__(self, tree: ClassTree, classes: Sequence[str] = (), synsets: Mapping[str, str] | None = None):
        self.tree, self.classes, self.synsets = tree, tuple(dict.fromkeys(classes)), dict(synsets or {})
        self._families: dict[tuple[str, ...], Family] = {}

    def nodes_of(self, label: str) -> tuple[str, ...]:
        """The class's own node if it is known, else all nodes of its name."""
        known = self.synsets.get(label)
        return (known,) if known is not None and known in self.tree.names else self.tree.nodes(label)

    def of(self, answer: str, labels: Sequence[str], accepted: Sequence[str] = ()) -> Relation:
        """The relation of `answer` to the nearest of `labels`; `accepted` are other names of these classes."""
        text = final_answer(answer)
        words = words_of(text) if text is not None else []
        if not words:
            return Relation(NO_ANSWER, None, "the answer is empty" if text is not None else "it ends in its reasoning")
        family = self._family(tuple(labels))
        flags = family.flags
        own = self._stated(words, dict.fromkeys((*labels, *accepted, *family.same)))
        below = self._stated(words, family.below)
        above = self._stated(words, family.above)
        if not (own or below or above):
            refused = REFUSAL.search(" ".join(words))
            why = "the answer is a refusal" if refused else "it names neither the class nor one above or below it"
            return Relation(NO_ANSWER if refused else WRONG, None, why, flags)
        if rival := self._rival(words, family, [*own, *below, *above], (*labels, *accepted)):
            return Relation(WRONG, rival, f"it also names {rival!r}, another class", flags)
        if own and not any(name.inside(longer) for name in own for longer in below):
            return Relation(RIGHT, own[0].name, f"{own[0].name!r} is a name of the class", flags)
        if below:
            return Relation(TOO_SPECIFIC, below[0].name, f"{below[0].name!r} is a kind of {labels[0]!r}", flags)
        if own:
            return Relation(RIGHT, own[0].name, f"{own[0].name!r} is a name of the class", flags)
        nearest = min(above, key=lambda mention: family.distance[mention.name])
        steps = family.distance[nearest.name]
        where = f"{steps} step{'s' if steps > 1 else ''} above {labels[0]!r}"
        return Relation(TOO_GENERAL, nearest.name, f"{nearest.name!r} is {where}", flags)

    def _family(self, labels: tuple[str, ...]) -> Family:
        if labels not in self._families:
            self._families[labels] = self._make_family(labels)
        return self._families[labels]

    def _make_family(self, labels: tuple[str, ...]) -> Family:
        tree, names = self.tree, self.tree.names
        nodes = [node for label in labels for node in self.nodes_of(label)]
        up, down = tree.above(nodes), tree.below(nodes)
        same = dict.fromkeys(name for node in nodes for name in names[node])
        below = {name for node in down for name in names.get(node, ()) if tree.nodes(name)[:1] == (node,)} - same.keys()
        distance: dict[str, int] = {}
        for node, steps in sorted(up.items(), key=lambda item: item[1]):
            for name in names.get(node, ()):
                if name.lower() not in TOP and name not in same and name not in below:
                    distance.setdefault(name, steps)
        flags = []
        if any(not self.nodes_of(label) for label in labels):
            flags.append("label not in the tree")
        if any(len(self.nodes_of(label)) > 1 for label in labels):
            flags.append("label with several senses")
        return Family(tuple(same), tuple(distance), tuple(sorted(below)), distance, tuple(flags))

    def _stated(self, words: Sequence[str], names: Iterable[str]) -> list[Mention]:
        """Mentions of `names` that are neither negated nor part of a longer name of the tree."""
        known = tuple(names)
        found = [mention for mention in mentions(words, known) if not mention.denied]
        inside = set(known)
        return [mention for mention in found if not self._enclosed(words, mention, inside)]

    def _enclosed(self, words: Sequence[str], mention: Mention, own: set[str]) -> bool:
        """Whether the mention is a proper part of another name of the tree."""
        for start in range(max(0, mention.end - LONGEST), mention.start + 1):
            for end in range(mention.end, min(len(words), start + LONGEST) + 1):
                if end - start > mention.end - mention.start and self._is_other_name(words[start:end], own):
                    return True
        return False

    def _is_other_name(self, words: Sequence[str], own: set[str]) -> bool:
        spelled = {" ".join((*words[:-1], last)) for last in forms(words[-1])}
        return any(name in self._spoken and not self._spoken[name] <= own for name in spelled)

    @cached_property
    def _spoken(self) -> dict[str, set[str]]:
        """Names of several words as they are compared, to the names written so."""
        found: dict[str, set[str]] = {}
        for name in self.tree.senses:
            if " " in name or "-" in name:
                for node in self.tree.senses[name]:
                    same = {given for given in self.tree.names[node] if given.lower() == name}
                    found.setdefault(" ".join(words_of(name)), set()).update(same or {name})
        return found

    def _rival(
        self, words: Sequence[str], family: Family, related: Sequence[Mention], own_names: Sequence[str]
    ) -> str | None:
        """Another listed class that the answer names, which is no relative of the expected one."""
        kin = _folded((*own_names, *family.same, *family.above, *family.below))
        others = [name for name in self.classes if name.lower() not in kin]
        for mention in self._stated(words, others):
            if not any(mention.inside(own) or (own.start, own.end) == (mention.start, mention.end) for own in related):
                return mention.name
        return None


@lru_cache(maxsize=4096)
def _folded(names: tuple[str, ...]) -> frozenset[str]:
    return frozenset(name.lower() for name in names)
