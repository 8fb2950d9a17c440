"""The prefix tree of class names: shared beginnings are computed once. Pure functions of token ids.

    trie = ClassTrie([[5, 7], [5, 7, 9], [5, 8], [6]])        # "tiger", "tiger cat", "tin", "ant"

    5 ── 7 ── 9          nodes in depth-first order:   0: 5   1: 7   2: 9   3: 8   4: 6
      └─ 8               inner (something follows):    0, 1
    6                    class 0 ends at node 1, class 1 at 2, class 2 at 3, class 3 at 4

A node's log-probability is that of its token after everything above it, so only inner nodes are ever forwarded: the
top level is scored by the prompt's last position, leaves by their parents. ImageNet's 1,000 names are 3,253 LLaMA
tokens, 2,841 nodes and 1,866 inner nodes. With an end token (`</s>`) every name gets one more token, and "tiger" no
longer beats "tiger cat" merely by being its beginning.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from configs.errors import DataError
from data_prep.sample import Turn
from train.chat.renderer import Renderer

ROOT = -1  # the parent of the top level: the prompt itself


@dataclass(frozen=True, slots=True)
class ClassTrie:
    """The tree of `names`, one list of token ids a class, the optional id `eos` appended to each.

    By node, in depth-first order: `tokens`, `parents` (`ROOT` on top), `depths` (from 1) and `sizes` (nodes of the
    subtree, itself included, which are the next `sizes[n]` nodes). By class: `paths`, the nodes from top to end. Equal
    names share a path and keep one entry each.
    """

    names: Sequence[Sequence[int]]
    eos: int | None = None
    tokens: list[int] = field(init=False, default_factory=list)
    parents: list[int] = field(init=False, default_factory=list)
    depths: list[int] = field(init=False, default_factory=list)
    sizes: list[int] = field(init=False, default_factory=list)
    paths: list[list[int]] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        """Build the tree. Raises `DataError` for an empty name or no names at all."""
        if not self.names:
            raise DataError("there are no class names to score; give at least one")
        ending = [] if self.eos is None else [self.eos]
        rows = [(*name, *ending) for name in self.names]
        if empty := [number for number, name in enumerate(self.names) if not name]:
            raise DataError(f"class {empty[0]} has a name without tokens; give it a text that is not empty")
        node_of: dict[tuple[int, ...], int] = {}
        for row in sorted(set(rows)):
            for depth in range(1, len(row) + 1):
                if row[:depth] not in node_of:
                    node_of[row[:depth]] = len(self.tokens)
                    self.tokens.append(row[depth - 1])
                    self.parents.append(node_of.get(row[: depth - 1], ROOT))
                    self.depths.append(depth)
        self.sizes.extend(_subtree_sizes(self.parents))
        self.paths.extend([node_of[row[:depth]] for depth in range(1, len(row) + 1)] for row in rows)

    @property
    def depth(self) -> int:
        """Tokens of the longest name, the end token included."""
        return max(self.depths)

    @property
    def inner(self) -> list[int]:
        """Nodes that something follows, in depth-first order: the tokens to forward."""
        return [node for node, size in enumerate(self.sizes) if size > 1]

    @property
    def ends(self) -> list[int]:
        """The node at which each class ends."""
        return [path[-1] for path in self.paths]

    def ancestors(self, node: int) -> list[int]:
        """The nodes above `node`, from the top."""
        above: list[int] = []
        while self.parents[node] != ROOT:
            node = self.parents[node]
            above.append(node)
        return above[::-1]

    def groups(self, limit: int) -> list[tuple[list[int], list[int]]]:
        """Inner nodes in depth-first slices of at most `limit`, each with the earlier nodes that it still attends to.

        In depth-first order these are only the ancestors of the slice's first node. The keys of all other nodes can be
        dropped before the slice is forwarded, so memory is bounded by `limit` plus the tree's depth for any set of
        names.

        >>> ClassTrie([[5, 7, 9, 9], [5, 8, 1], [6, 1]]).groups(2)
        [([], [0, 1]), ([0, 1], [2, 4]), ([], [6])]
        """
        inner = self.inner
        slices = [inner[start : start + limit] for start in range(0, len(inner), limit)]
        return [(self.ancestors(nodes[0]), nodes) for nodes in slices]


def _subtree_sizes(parents: Sequence[int]) -> list[int]:
    sizes = [1] * len(parents)
    for node in reversed(range(len(parents))):
        if parents[node] != ROOT:
            sizes[parents[node]] += sizes[node]
    return sizes


def answer_tokens(renderer: Renderer, turns: Sequence[Turn], prefix: str, names: Sequence[str]) -> list[list[int]]:
    """The ids each of `names` has as the answer to `turns`, after `prefix`: those that training would predict.

    With SentencePiece, "tench" alone and " tench" after "ASSISTANT:" can be other tokens; the text is therefore
    tokenized with the question before it. Raises `DataError` if the tokenizer merges prompt and name into one token.
    """
    prompt = renderer.render_question(turns, prefix)
    found = []
    for name in names:
        answered = renderer.answered(turns, f"{prefix} {name}".strip())
        if answered[: len(prompt)] != prompt:
            raise DataError(f"the tokenizer merges the prompt's end and {name!r} into one token; change answer_prefix")
        found.append(answered[len(prompt) :])
    return found
