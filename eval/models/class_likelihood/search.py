"""The best class without scoring all of them: branch and bound over the tree of names, exact for every rule.

A name's log-probability only falls along its path, so what is known at a node bounds every name below it. The search
runs the most promising inner nodes first, and ends when no open node can beat the best whole name. With a
confident model a handful of ImageNet's 1,866 inner nodes is enough; with an uncertain one the bounds are loose, and
beyond `LIMIT` of the tree the caller scores all of it instead.

Where a forward of many nodes takes no longer than one of few (a GPU reads all weights for either), a round is filled
up to a budget: with the nodes below the promising ones, whose log-probabilities are not known yet, and with the next
promising ones. Most searches then end after one round, instead of one for every token of the name.

Pure Python: `Search` returns the nodes to expand and takes their children's log-probabilities.
"""

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from eval.class_scores.rules import Bounds
from eval.class_scores.trie import ROOT, ClassTrie

WIDTH = 8  # nodes of one image forwarded at a time
LIMIT = 0.2  # share of the inner nodes after which the whole tree is cheaper than going on by rounds
NEAR = 2.0  # a node joins a round if its bound, as a log-probability, is this near to the best one


@dataclass(frozen=True, slots=True)
class BestClass:
    """The class with the highest score, of equal ones the first in the list, and what it took to find it."""

    index: int
    score: float
    nodes_expanded: int
    whole_tree: bool = False


class TreeIndex:
    """What the searches of all images share: children and classes of every node."""

    def __init__(self, trie: ClassTrie):
        """Look them up once."""
        self.trie = trie
        self.children: dict[int, list[int]] = {}
        self.first_class: dict[int, int] = {}
        for node, parent in enumerate(trie.parents):
            self.children.setdefault(parent, []).append(node)
        for index, end in enumerate(trie.ends):
            self.first_class.setdefault(end, index)
        self.limit = max(WIDTH, int(LIMIT * len(trie.inner)))


class Search:
    """The search of one image.

    search = Search(tree, bounds)
    search.take({node: its log-probability for every child of ROOT})
    while nodes := search.next_nodes():
        search.take({child: log-probability for every child of nodes})
    """

    def __init__(self, tree: TreeIndex, bounds: Bounds):
        """Starts at the root."""
        self.tree, self.bounds = tree, bounds
        self.expanded = 0
        self._forwarded: set[int] = set()
        self.best_score, self.best_index = -math.inf, -1
        self._log_p: dict[int, float] = {ROOT: 0.0}
        self._open: list[tuple[float, int]] = []  # (- bound, node)

    @property
    def gave_up(self) -> bool:
        """Whether so much was expanded, and the best class is still not certain, that the whole tree is cheaper."""
        certain = not self._open or -self._open[0][0] < self.best_score
        return self.expanded > self.tree.limit and not certain

    def take(self, log_probs: Mapping[int, float]) -> None:
        """Log-probabilities of nodes whose parents are known or come before them."""
        trie = self.tree.trie
        for node, value in log_probs.items():
            reached = self._log_p[node] = self._log_p[trie.parents[node]] + value
            if node in self.tree.first_class:
                self._consider(self.tree.first_class[node], self.bounds.score(node, reached, trie.depths[node]))
            if trie.sizes[node] > 1 and node not in self._forwarded:
                heapq.heappush(self._open, (-self.bounds.below(node, reached), node))

    def _consider(self, index: int, score: float) -> None:
        if score > self.best_score or (score == self.best_score and index < self.best_index):
            self.best_score, self.best_index = score, index

    def next_nodes(self, budget: int = 0) -> list[int]:
        """The nodes to expand now, parents first; none if the best class is found or the search gave up.

        At most `WIDTH` whose bounds are near the best one, and others up to `budget` in all.
        """
        chosen: list[int] = []
        while self._open and not self.gave_up and len(chosen) < WIDTH:
            bound, node = -self._open[0][0], self._open[0][1]
            if bound < self.best_score or (chosen and not self._near(node, chosen[0])):
                break
            heapq.heappop(self._open)
            chosen.append(node)
        if chosen:
            chosen = sorted([*chosen, *self._likely(chosen, budget - len(chosen))])
        self.expanded += len(chosen)
        self._forwarded.update(chosen)
        return chosen

    def _likely(self, chosen: Sequence[int], count: int) -> list[int]:
        """At most `count` further nodes that may have to be expanded, the likeliest first.

        As long as the children of a node are not known, its probability is thought of as equally divided.
        """
        found: list[int] = []
        waiting = [(-self._log_p[node], node) for bound, node in self._open if -bound >= self.best_score]
        for node in chosen:
            self._add_children(waiting, node, self._log_p[node])
        heapq.heapify(waiting)
        while waiting and len(found) < count:
            value, node = heapq.heappop(waiting)
            found.append(node)
            self._add_children(waiting, node, -value)
        if found:
            taken = set(found)
            self._open = [entry for entry in self._open if entry[1] not in taken]
            heapq.heapify(self._open)
        return found

    def _add_children(self, waiting: list[tuple[float, int]], node: int, log_p: float) -> None:
        children = self.tree.children.get(node, [])
        value = log_p - math.log(max(1, len(children)))
        for child in children:
            if self.tree.trie.sizes[child] > 1:
                heapq.heappush(waiting, (-value, child))

    def _near(self, node: int, first: int) -> bool:
        """Whether it pays to expand `node` together with the most promising one, before that one's children are known.

        Every round costs a forward, however small, and every node is one more to count.
        """
        return self._log_p[node] > self._log_p[first] - NEAR

    def result(self) -> BestClass:
        """What was found."""
        return BestClass(self.best_index, self.best_score, self.expanded)


def expand_children(tree: TreeIndex, nodes: Sequence[int]) -> list[tuple[int, int]]:
    """(position in `nodes`, child) for every child of `nodes`."""
    return [(position, child) for position, node in enumerate(nodes) for child in tree.children.get(node, ())]
