"""Log-probabilities of every node of a tree of names, or just the best name, behind prompts that are computed once.

    scorer = TreeScorer(TreeForward(decoder, head, words, config))
    log_probs = scorer.log_probs(prefix, trie)          # (B, nodes): one forward pass over the inner nodes, in groups
    best = scorer.top1(prefix, trie, rule)              # branch and bound: often a hundredth of the nodes

Equal to one whole forward a name (`eval.benchmarks.reference_scoring`; the tests compare every class).
Tensor shapes: `B` images, `N` nodes at a time, `S` slots in use, `R` = B x N rows, `H` hidden size.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from eval.class_scores.rules import Bounds, Floats, Rule, class_scores
from eval.class_scores.trie import ROOT, ClassTrie
from eval.models.class_likelihood.search import BestClass, Search, TreeIndex, expand_children
from eval.models.class_likelihood.tree_forward import Prefix, TreeForward

GROUP = 512  # nodes forwarded at a time for each image: at 7B, 256 MiB of keys


class TreeScorer:
    """Names of one tree after another; `group` nodes are forwarded at a time for each image.

    `tokens_forwarded` counts nodes over all calls.
    """

    def __init__(self, tree: TreeForward, group: int = GROUP):
        """`tree` runs the model."""
        self.tree, self.group = tree, group
        self.tokens_forwarded = 0
        self._index: TreeIndex | None = None

    def index(self, trie: ClassTrie) -> TreeIndex:
        """Children and classes of the tree's nodes; kept, as most protocols ask the same of every image."""
        if self._index is None or self._index.trie is not trie:
            self._index = TreeIndex(trie)
        return self._index

    @torch.inference_mode()
    def log_probs(self, prefix: Prefix, trie: ClassTrie) -> Floats:
        """(B, nodes): each node's log-probability after the prompt and everything above it."""
        index, rows = self.index(trie), len(prefix.mask)
        results = np.empty((rows, len(trie.tokens)))
        results[:, index.children[ROOT]] = self._after_prompt(prefix, index)
        held: list[int] = []
        for carried, nodes in trie.groups(self.group):
            prefix.cache.keep([held.index(node) for node in carried])
            held = [*carried, *nodes]
            states = self._extend(prefix, trie, [nodes], [held])  # (B, N, H)
            self._read(states, trie, [expand_children(index, nodes)] * rows, results)
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
        searches = [Search(index, bounds) for _ in range(len(prefix.mask))]
        for search, values in zip(searches, self._after_prompt(prefix, index), strict=True):
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
        """Expand the most promising nodes of every image in one forward pass, round after round."""
        held: list[list[int]] = [[] for _ in searches]  # nodes in the slots of each image, ROOT where a slot is padding
        values = np.empty((len(searches), len(index.trie.tokens)))
        while any(chosen := [search.next_nodes() for search in searches]):
            width = max(map(len, chosen))
            padded = [[*nodes, *[ROOT] * (width - len(nodes))] for nodes in chosen]
            held = [[*before, *nodes] for before, nodes in zip(held, padded, strict=True)]
            states = self._extend(prefix, index.trie, padded, held)
            pairs = [expand_children(index, nodes) for nodes in chosen]
            self._read(states, index.trie, pairs, values)
            for row, search in enumerate(searches):
                search.take({child: float(values[row, child]) for _, child in pairs[row]})

    def _after_prompt(self, prefix: Prefix, index: TreeIndex) -> Floats:
        """(B, children of ROOT) log-probabilities of the first token."""
        logits = prefix.logits - prefix.logits.logsumexp(-1, keepdim=True)
        tokens = torch.tensor([index.trie.tokens[node] for node in index.children[ROOT]], device=logits.device)
        values: Floats = logits[:, tokens].double().cpu().numpy()
        return values

    def _extend(
        self, prefix: Prefix, trie: ClassTrie, nodes: Sequence[list[int]], held: Sequence[list[int]]
    ) -> torch.Tensor:
        """Forward each image's `nodes`, or one list for all; `held` names the nodes of all slots, those included."""
        device, images = prefix.mask.device, len(prefix.mask)
        visible = torch.from_numpy(np.stack([_visible(trie, *pair) for pair in zip(nodes, held, strict=True)]))
        tokens = torch.tensor([[trie.tokens[max(node, 0)] for node in row] for row in nodes])
        depths = torch.tensor([[trie.depths[max(node, 0)] for node in row] for row in nodes])
        moved = [tensor.to(device).expand(images, *tensor.shape[1:]) for tensor in (tokens, depths, visible)]
        self.tokens_forwarded += sum(node != ROOT for row in nodes for node in row) * (images // len(nodes))
        return self.tree.extend(prefix, moved[0], moved[1], moved[2])

    def _read(
        self, states: torch.Tensor, trie: ClassTrie, pairs: Sequence[list[tuple[int, int]]], results: Floats
    ) -> None:
        """Write the log-probabilities of children into `results` (B, nodes)."""
        width, device = states.shape[1], states.device
        where = [(row, position, child) for row, children in enumerate(pairs) for position, child in children]
        if not where:
            return
        positions = torch.tensor([row * width + position for row, position, _ in where], device=device)
        tokens = torch.tensor([trie.tokens[child] for _, _, child in where], device=device)
        values = self.tree.log_probs(states.flatten(0, 1), positions, tokens)
        results[[row for row, _, _ in where], [child for _, _, child in where]] = values.double().cpu().numpy()


def _best(scores: Floats, expanded: int) -> BestClass:
    """The best of all classes' scores (K,)."""
    best = int(scores.argmax())
    return BestClass(best, float(scores[best]), expanded, whole_tree=True)


def _visible(trie: ClassTrie, nodes: Sequence[int], held: Sequence[int]) -> NDArray[np.bool_]:
    """(N, S + N): the last N of the slots `held` are `nodes`; each sees its ancestors' slots and its own."""
    slot_of = {node: slot for slot, node in enumerate(held) if node != ROOT}
    sees = np.zeros((len(nodes), len(held)), dtype=np.bool_)
    for row, node in enumerate(nodes):
        sees[row, len(held) - len(nodes) + row] = True
        if node != ROOT:
            sees[row, [slot_of[above] for above in trie.ancestors(node)]] = True
    return sees
