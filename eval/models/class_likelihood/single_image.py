"""All class names of a single image scored, or the best one found."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from data_prep.prompts import image_question
from data_prep.sample import IMAGE_PLACEHOLDER, Turn
from eval.class_scores.rules import Rule, class_scores
from eval.models.class_likelihood.scorer import ClassScorer


def score_image(scorer: ClassScorer, question: str, image: bytes, names: Sequence[str], rule: Rule) -> dict[str, Any]:
    """Everything about one image: the content of --json."""
    turns = question_turns(question)
    prompt, trie = scorer.predictor.prompt(turns, image), scorer.trie(turns, tuple(names))
    log_probs = scorer.log_probs([prompt], trie)[0]
    forwarded = scorer.tokens_forwarded
    prior = scorer.prior_without_image(turns, trie) if rule.guided else None
    scores = class_scores(trie, rule, log_probs, prior)
    classes = [
        {
            "name": name,
            "tokens": [trie.tokens[node] for node in path],
            "logprobs": [float(log_probs[node]) for node in path],
            "score": float(score),
            "probability": math.exp(sum(log_probs[node] for node in path)),
        }
        for name, path, score in zip(names, trie.paths, scores, strict=True)
    ]
    return {
        "prefix_ids": prompt.input_ids,
        "classes": classes,
        "tokens_forwarded": forwarded,
        "top1": names[int(np.argmax(scores))],
    }


def best_of_image(scorer: ClassScorer, question: str, image: bytes, names: Sequence[str], rule: Rule) -> dict[str, Any]:
    """The best class of one image alone: the content of --top1 --json."""
    turns = question_turns(question)
    prompt, trie = scorer.predictor.prompt(turns, image), scorer.trie(turns, tuple(names))
    prior = scorer.prior_without_image(turns, trie) if rule.guided else None
    before = scorer.tokens_forwarded
    best = scorer.top1([prompt], trie, rule, prior)[0]
    return {
        "prefix_ids": prompt.input_ids,
        "top1": names[best.index],
        "score": best.score,
        "nodes_expanded": best.nodes_expanded,
        "inner_nodes": len(trie.inner),
        "whole_tree": best.whole_tree,
        "tokens_forwarded": scorer.tokens_forwarded - before,
    }


def question_turns(question: str) -> tuple[Turn, ...]:
    """The question with the image before it, unless it says where the image goes."""
    return (Turn("human", question if IMAGE_PLACEHOLDER in question else image_question(question)),)
