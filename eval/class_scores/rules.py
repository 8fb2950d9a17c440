"""The scoring rules: from the log-probabilities of names' tokens to one score per class. Pure functions of numbers.

    sum    log p(name | image, prompt): the sum over the name's tokens
    mean   the same over the number of tokens (the paper's "average of probabilities" is this, in its code)
           (both may be taken of the tokens' probabilities themselves, as in the paper's text: `Rule.tokens`)
    cfg    guided by a prior q, with coefficient t:
             probability   t p + (1 - t) q               the paper's formula (Section 3.1)
             log           t log p + (1 - t) log q       what the authors' code computes, summed over the tokens

The prior is log q(name | prompt) without the image (`no_image`, the paper's text), or each token's mean log-probability
over all evaluated images (`dataset_mean`, the authors' code).

With log-probabilities all rules are sums of a part that falls along a name's path and a part that is known before the
image is seen, so the best name below a node can be bounded (`Bounds`), and an exact arg-max need not look at every
name. A sum of probabilities rises along a path: nothing is bounded, and every name is scored.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from configs.errors import ConfigError
from eval.class_scores.trie import ROOT, ClassTrie

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Rule:
    """`kind` is `sum`, `mean` or `cfg`; `guidance` (t) and `form` (`probability`, `log`) belong to `cfg`.

    `guided_mean` guides means instead of sums: the paper's row says "(Avg) w/ CFG", its code sums. `tokens` says what
    of each token is summed: its `log_probability` or its `probability`.
    """

    kind: str = "sum"
    guidance: float = 1.0
    form: str = "log"
    guided_mean: bool = False
    tokens: str = "log_probability"

    def __post_init__(self) -> None:
        """Raise `ConfigError` for an unknown rule or a negative coefficient."""
        if self.kind not in ("sum", "mean", "cfg") or self.form not in ("probability", "log"):
            raise ConfigError(
                f"rule is {self.kind!r} in form {self.form!r}; choose sum, mean or cfg, probability or log"
            )
        if self.guidance < 0:
            raise ConfigError(f"guidance is {self.guidance}; it must be at least 0, where 1 is no guidance")

    @property
    def guided(self) -> bool:
        """Whether a prior is needed."""
        return self.kind == "cfg"

    @property
    def mean(self) -> bool:
        """Whether sums are divided by the number of tokens."""
        return self.kind == "mean" or (self.kind == "cfg" and self.guided_mean)

    @property
    def sums_probabilities(self) -> bool:
        """Whether probabilities are summed, not their logarithms."""
        return self.tokens == "probability"

    def of_tokens(self, log_probs: Floats) -> Floats:
        """What of each token is summed."""
        return np.exp(log_probs) if self.sums_probabilities else log_probs

    def falling(self, total: Floats) -> Floats:
        """The part of a score that the image decides; of log-probabilities it never rises along a path."""
        return self.guidance * self._guided_form(total) if self.guided else total

    def fixed(self, total: Floats) -> Floats:
        """The part that the prior decides."""
        return (1 - self.guidance) * self._guided_form(total)

    def _guided_form(self, total: Floats) -> Floats:
        if self.sums_probabilities == (self.form == "probability"):
            return total
        return np.log(total) if self.sums_probabilities else np.exp(total)


def path_sums(trie: ClassTrie, log_probs: Floats) -> Floats:
    """(..., nodes): the log-probabilities of nodes to those of whole paths from the top."""
    sums = np.array(log_probs, dtype=np.float64)
    for node, parent in enumerate(trie.parents):  # depth first: parents come before their children
        if parent != ROOT:
            sums[..., node] += sums[..., parent]
    return sums


def class_scores(trie: ClassTrie, rule: Rule, log_probs: Floats, prior: Floats | None = None) -> Floats:
    """(..., nodes) log-probabilities to (..., classes) scores; `prior` (nodes) holds those of the prior.

    Raises `ConfigError` if the rule needs a prior and there is none.
    """
    ends = np.array(trie.ends)
    lengths = np.array([len(path) for path in trie.paths]) if rule.mean else 1
    scores = rule.falling(path_sums(trie, rule.of_tokens(log_probs))[..., ends] / lengths)
    return scores + rule.fixed(_prior_sums(trie, rule, prior)[ends] / lengths) if rule.guided else scores


def _prior_sums(trie: ClassTrie, rule: Rule, prior: Floats | None) -> Floats:
    if prior is None:
        raise ConfigError(f"rule {rule.kind} needs a prior: the names' log-probabilities without the image")
    return path_sums(trie, rule.of_tokens(prior))


class Bounds:
    """Upper bounds of the scores below each node, by what is known of the path to it; for log-probabilities only."""

    def __init__(self, trie: ClassTrie, rule: Rule, prior: Floats | None = None):
        """Look up, for every node, the longest name and the best prior part below it."""
        self.rule = rule
        nodes = len(trie.tokens)
        self.longest = np.zeros(nodes)
        self.best_fixed = np.full(nodes, -np.inf)
        self.fixed_at = np.zeros(nodes)
        fixed = np.zeros(nodes)
        if rule.guided:
            depths = np.array(trie.depths) if rule.mean else 1
            fixed = self.fixed_at = rule.fixed(_prior_sums(trie, rule, prior) / depths)
        for path in trie.paths:
            end = path[-1]
            self.longest[path] = np.maximum(self.longest[path], len(path))
            self.best_fixed[path] = np.maximum(self.best_fixed[path], fixed[end])

    def below(self, node: int, log_p: float) -> float:
        """No class whose path leads through `node`, reached with `log_p`, scores more than this."""
        return self._falling(log_p, self.longest[node]) + float(self.best_fixed[node])

    def score(self, node: int, log_p: float, depth: int) -> float:
        """The score of a class that ends at `node`."""
        return self._falling(log_p, depth) + float(self.fixed_at[node])

    def _falling(self, log_p: float, length: float) -> float:
        """`Rule.falling` of one number: numpy is slow on single ones."""
        value = log_p / float(length) if self.rule.mean else log_p
        if not self.rule.guided:
            return value
        return self.rule.guidance * (math.exp(value) if self.rule.form == "probability" else value)
