"""Log-probabilities of every node of a tree of names, or just the best name, behind prompts that are computed once.

    scorer = TreeScorer(TreeForward(decoder, head, words, config))
    log_probs = scorer.log_probs(prefix, trie)          # (B, nodes): one forward pass over the inner nodes, in groups
    best = scorer.top1(prefix, trie, rule)              # branch and bound: often a hundredth of the nodes

Equal to one whole forward a name (`eval.benchmarks.reference_scoring`; the tests compare every class).
Tensor shapes: `B` images, `N` nodes at a time, `S` slots in use, `M` children read, `H` hidden size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch

from eval.class_scores.rules import Bounds, Floats, Rule, class_scores
from eval.class_scores.trie import ROOT, ClassTrie
from eval.models.class_likelihood.search import BestClass, Search, TreeIndex, expand_children
from eval.models.class_likelihood.slots import Prefix
from eval.models.class_likelihood.tree_forward import TreeForward
from eval.models.class_likelihood.tree_tensors import TreeTensors

GROUP = 512  # nodes forwarded at a time for each image: at 7B, 256 MiB of keys
SEARCH_ROOM = 128  # nodes of an image that a search has room for at once; a longer one makes more
ROUND_ROWS = {"cuda": 256}  # nodes of all images that a round is filled up to: so many take as long as one on a GPU


class TreeScorer:
    """Names of one tree after another; `group` nodes are forwarded at a time for each image.

    Counted over all calls: `tokens_forwarded` nodes, `forwards` of the decoder behind prompts, and `transfers` of
    results from the device, each of which waits for it.
    """

    def __init__(self, tree: TreeForward, group: int = GROUP, round_rows: int | None = None):
        """`tree` runs the model; `round_rows` is the number of nodes that a round may have, by default `ROUND_ROWS`."""
        self.tree, self.group, self.round_rows = tree, group, round_rows
        self.tokens_forwarded = self.forwards = self.transfers = 0
        self._index: TreeIndex | None = None
        self._tensors: TreeTensors | None = None

    def index(self, trie: ClassTrie) -> TreeIndex:
        """Children and classes of the tree's nodes; kept, as most protocols ask the same of every image."""
        if self._index is None or self._index.trie is not trie:
            self._index, self._tensors = TreeIndex(trie), None
        return self._index

    def tensors(self, trie: ClassTrie, device: torch.device) -> TreeTensors:
        """The tree on the device; kept too."""
        self.index(trie)
        if self._tensors is None:
            self._tensors = TreeTensors.of(trie, device)
        return self._tensors

    @torch.inference_mode()
    def log_probs(self, prefix: Prefix, trie: ClassTrie) -> Floats:
        """(B, nodes): each node's log-probability after the prompt and everything above it."""
        index, rows = self.index(trie), len(prefix.lengths)
        parts, columns = [self._after_prompt(prefix, index)], [index.children[ROOT]]
        held: list[int] = []
        for carried, nodes in trie.groups(self.group):
            slot_of = {node: slot for slot, node in enumerate(held)}
            prefix.cache.keep([slot_of[node] for node in carried])
            held = [*carried, *nodes]
            pairs = [expand_children(index, nodes)] * rows
            moved = self._moved(prefix, trie, [[*held]], pairs, len(nodes))
            parts.append(self._forward(prefix, trie, moved, rows * len(nodes)).view(rows, -1))
            columns.append([child for _, child in pairs[0]])
        results = np.empty((rows, len(trie.tokens)))
        results[:, [node for part in columns for node in part]] = self._fetch(torch.cat(parts, 1))
        return results

    @torch.inference_mode()
    def top1(self, prefix: Prefix, trie: ClassTrie, rule: Rule, prior: Floats | None = None) -> list[BestClass]:
        """The best class of every image, by branch and bound, or by the whole tree where that does not pay.

        The same arg-max as `class_scores(trie, rule, log_probs(prefix, trie), prior)`, of equal scores the first.
        Sums of probabilities cannot be bounded: they take the whole tree.
        """
        if rule.sums_probabilities:
            scores = class_scores(trie, rule, self.log_probs(prefix, trie), prior)
            return [_best(row, len(trie.inner)) for row in scores]
        index, bounds = self.index(trie), Bounds(trie, rule, prior)
        searches = [Search(index, bounds) for _ in prefix.lengths]
        for search, values in zip(searches, self._fetch(self._after_prompt(prefix, index)), strict=True):
            search.take(dict(zip(index.children[ROOT], map(float, values), strict=True)))
        self._search(prefix, index, searches)
        found = [search.result() for search in searches]
        given_up = [row for row, search in enumerate(searches) if search.gave_up]
        if given_up:
            prefix.cache.keep([])
            scores = class_scores(trie, rule, self.log_probs(prefix.rows(given_up), trie), prior)
            for row, values in zip(given_up, scores, strict=True):
                found[row] = _best(values, searches[row].expanded + len(trie.inner))
        return found

    def _search(self, prefix: Prefix, index: TreeIndex, searches: list[Search]) -> None:
        """Expand the most promising nodes of every image in one forward pass, round after round.

        A round sends the nodes to the device in one transfer and fetches their children's log-probabilities in one.
        """
        held: list[list[int]] = [[] for _ in searches]  # nodes in the slots of each image, ROOT where a slot is padding
        rows = ROUND_ROWS.get(prefix.mask.device.type, 0) if self.round_rows is None else self.round_rows
        while any(chosen := [search.next_nodes(rows // len(searches)) for search in searches]):
            width = max(map(len, chosen))
            held = [
                [*before, *nodes, *[ROOT] * (width - len(nodes))] for before, nodes in zip(held, chosen, strict=True)
            ]
            pairs = [expand_children(index, nodes) for nodes in chosen]
            moved = self._moved(prefix, index.trie, held, pairs, width)
            values = iter(self._fetch(self._forward(prefix, index.trie, moved, sum(map(len, chosen)))))
            for search, children in zip(searches, pairs, strict=True):
                search.take({child: float(next(values)) for _, child in children})

    def _after_prompt(self, prefix: Prefix, index: TreeIndex) -> torch.Tensor:
        """(B, children of ROOT) log-probabilities of the first token."""
        logits = prefix.logits - prefix.logits.logsumexp(-1, keepdim=True)
        tokens = self.tensors(index.trie, logits.device).tokens
        return logits[:, tokens[torch.tensor(index.children[ROOT], device=logits.device)]]

    def _fetch(self, values: torch.Tensor) -> Floats:
        """Move results to the host, which waits for all that was launched."""
        self.transfers += 1
        fetched: Floats = values.double().cpu().numpy()
        return fetched

    def _moved(
        self,
        prefix: Prefix,
        trie: ClassTrie,
        held: Sequence[list[int]],
        pairs: Sequence[list[tuple[int, int]]],
        width: int,
    ) -> "_Moved":
        """Transfer the nodes of all slots (or one list for all images) and what is read of the last `width`."""
        rows = [row * width + position for row, children in enumerate(pairs) for position, _ in children]
        read = [*rows, *(trie.tokens[child] for children in pairs for _, child in children)]
        flat = torch.tensor([*chain.from_iterable(held), *read]).to(prefix.mask.device, non_blocking=True)
        slots = flat[: len(flat) - len(read)].view(len(held), -1)
        return _Moved(slots, width, rows, flat[len(flat) - len(read) :].view(2, -1))

    def _forward(self, prefix: Prefix, trie: ClassTrie, moved: "_Moved", count: int) -> torch.Tensor:
        """Forward the nodes of the last slots, `count` that are not padding: the children's log-probabilities (M,)."""
        tensors, images = self.tensors(trie, prefix.mask.device), len(prefix.lengths)
        nodes = moved.slots[:, -moved.width :]
        inputs = [tensors.tokens[nodes], tensors.depths[nodes], tensors.visible(nodes, moved.slots)]
        self.tokens_forwarded += count
        self.forwards += 1
        states = self.tree.extend(prefix, *(part.expand(images, *part.shape[1:]) for part in inputs))
        return self.tree.log_probs(states.flatten(0, 1), moved.rows, moved.read)


@dataclass(frozen=True)
class _Moved:
    """Of one forward, on the device: nodes of all `slots` (B or 1, S + N) and `read`, positions and tokens (2, M)."""

    slots: torch.Tensor
    width: int
    rows: list[int]
    read: torch.Tensor


def _best(scores: Floats, expanded: int) -> BestClass:
    """The best of all classes' scores (K,)."""
    best = int(scores.argmax())
    return BestClass(best, float(scores[best]), expanded, whole_tree=True)
