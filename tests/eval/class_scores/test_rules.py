"""From token log-probabilities to class scores: each rule against its formula, and bounds that hold."""

import numpy as np
import pytest

from configs.errors import ConfigError
from eval.class_scores.rules import Bounds, Rule, class_scores, path_sums
from eval.class_scores.trie import ClassTrie
from eval.models.class_likelihood.search import TreeIndex

NAMES = ([5, 7], [5, 7, 9], [5, 8], [6], [5, 7])
RULES = [
    Rule("sum"),
    Rule("mean"),
    Rule("cfg", 3.0),
    Rule("cfg", 0.4),
    Rule("cfg", 1.5, "probability"),
    Rule("cfg", 0.5, "probability"),
    Rule("cfg", 2.0, guided_mean=True),
]

LITERAL = [
    Rule("sum", tokens="probability"),
    Rule("mean", tokens="probability"),
    *(Rule("cfg", 1.5, form, mean, "probability") for form in ("probability", "log") for mean in (True, False)),
]


@pytest.fixture
def numbers():
    rng = np.random.default_rng(0)
    trie = ClassTrie(NAMES)
    return trie, -rng.exponential(2, len(trie.tokens)), -rng.exponential(2, len(trie.tokens))


def by_hand(rule, p, q):
    """One class's score from its tokens' log-probabilities `p` and the prior's `q`."""
    if rule.tokens == "probability":  # the paper's words: probabilities are summed, or averaged
        p, q = [float(np.exp(value)) for value in p], [float(np.exp(value)) for value in q]
        p, q = sum(p) / (len(p) if rule.mean else 1), sum(q) / (len(q) if rule.mean else 1)
        p, q = (p, q) if rule.form == "probability" or rule.kind != "cfg" else (np.log(p), np.log(q))
        return p if rule.kind != "cfg" else rule.guidance * p + (1 - rule.guidance) * q
    p, q = (np.mean(p), np.mean(q)) if rule.mean else (np.sum(p), np.sum(q))
    if rule.kind != "cfg":
        return p
    if rule.form == "log":
        return rule.guidance * p + (1 - rule.guidance) * q
    return rule.guidance * np.exp(p) + (1 - rule.guidance) * np.exp(q)


@pytest.mark.parametrize("rule", [*RULES, *LITERAL], ids=str)
def test_scores_are_those_of_the_formula(numbers, rule):
    trie, log_p, log_q = numbers
    expected = [by_hand(rule, log_p[path], log_q[path]) for path in trie.paths]
    assert class_scores(trie, rule, log_p, log_q) == pytest.approx(expected)
    assert class_scores(trie, rule, np.stack([log_p, log_q]), log_q)[0] == pytest.approx(expected)  # several images


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_no_name_scores_more_than_the_bound_of_any_node_on_its_path(numbers, rule):
    trie, log_p, log_q = numbers
    bounds, sums = Bounds(trie, rule, log_q), path_sums(trie, log_p)
    scores = class_scores(trie, rule, log_p, log_q)
    for index, path in enumerate(trie.paths):
        assert bounds.score(path[-1], sums[path[-1]], len(path)) == pytest.approx(scores[index])
        for node in path:
            assert bounds.below(node, sums[node]) >= scores[index] - 1e-12


def test_names_that_are_equal_score_the_same(numbers):
    trie, log_p, _ = numbers
    scores = class_scores(trie, Rule("sum"), log_p)
    assert scores[0] == scores[4]
    assert TreeIndex(trie).first_class[trie.ends[4]] == 0  # and the first of them is the answer


@pytest.mark.parametrize(
    ("values", "message"),
    [(("best",), "choose sum, mean or cfg"), (("cfg", -1.0), "at least 0"), (("cfg", 1.0, "odds"), "choose sum")],
)
def test_an_impossible_rule_is_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        Rule(*values)


def test_guidance_without_a_prior_is_refused(numbers):
    with pytest.raises(ConfigError, match="needs a prior"):
        class_scores(numbers[0], Rule("cfg", 2.0), numbers[1])
