"""Among which classes answers were scored, and by which rule: part of every report of a task with a class list."""

from typing import Any

from configs.errors import UserError
from configs.protocol import ProtocolConfig
from configs.question import FILE_DRAWS
from data_prep.class_names import load_class_list
from eval.class_scores.neighbours import read_neighbours
from eval.tasks.candidates import shown_candidates
from eval.types import Prediction, Score

TASKS = ("closed_world", "class_likelihood", "zero_shot", "trained_probe")
TOKEN_SCORES = {"log_probability": "log-probabilities", "probability": "probabilities"}
ORDERS = {"random": "in an order drawn by the item's id", "fixed": "in the list's order"}


def candidate_set(protocol: ProtocolConfig) -> dict[str, Any] | None:
    """How many classes there are, how many an item was scored among, how those were chosen, and the rule.

    Classes that share a name count as one; `listed` counts each of them. None for a task without a class list, or if
    the list cannot be read on this machine.
    """
    if protocol.task not in TASKS or protocol.classes is None:
        return None
    try:
        names = load_class_list(protocol.classes).names
    except UserError:
        return None
    classes = len(set(names))
    return {
        "classes": classes,
        "listed": len(names),
        "candidates": protocol.candidates or classes,
        "chosen": _chosen(protocol),
        "rule": _rule(protocol),
    }


def candidates_of(protocol: ProtocolConfig, prediction: Prediction) -> list[str] | None:
    """The names that the item was scored among, in the order of the question; None where all of the list were."""
    if protocol.task not in TASKS or protocol.classes is None or protocol.candidates is None:
        return None
    try:
        names = load_class_list(protocol.classes).names
        indices = shown_candidates(protocol, names, prediction.target, prediction.id, prediction.item_index)
    except UserError:
        return None
    return [names[index] for index in (indices if protocol.task == "closed_world" else sorted(indices))]


def scored_answer(protocol: ProtocolConfig, prediction: Prediction, score: Score) -> str:
    """The answer that was scored: the stored text, or the best name by today's rule and candidates."""
    by_rule = protocol.task in ("class_likelihood", "zero_shot", "trained_probe") and score.extracted is not None
    return str(score.extracted) if by_rule else prediction.answer


def _chosen(protocol: ProtocolConfig) -> str:
    if protocol.candidates is None:
        text = "all classes of the list"
    elif protocol.candidate_draw == "siblings":
        text = (
            f"the item's class and others that have a parent in common with it in {_tree(protocol)}, drawn by the "
            "item's id (candidate_draw: siblings); harder than candidates drawn among all classes"
        )
    elif protocol.candidate_draw in FILE_DRAWS:
        what = "class" if protocol.candidate_draw == "similar_class" else "image"
        text = (
            f"the item's class and those most similar to its {what} by {_similar_by(protocol)} (candidate_draw: "
            f"{protocol.candidate_draw}); harder than candidates drawn at random"
        )
    elif protocol.candidate_draw == "stream":
        text = "the item's class and others drawn from one random stream over the data (candidate_draw: stream)"
    else:
        text = "the item's class and others drawn by the item's id (candidate_draw: item)"
    stream = protocol.candidate_draw == "stream" and protocol.order == "random"
    order = "in the stream's order" if stream else ORDERS[protocol.order]
    return f"{text}, {order}" if protocol.task == "closed_world" else text


def _tree(protocol: ProtocolConfig) -> str:
    """Which tree made the file of siblings."""
    try:
        return f"the tree {read_neighbours(str(protocol.candidate_file)).of.get('tree', 'of an unknown source')}"
    except UserError:
        return f"the tree of {protocol.candidate_file}"


def _similar_by(protocol: ProtocolConfig) -> str:
    """Whose cosines made the file of candidates."""
    try:
        of = read_neighbours(str(protocol.candidate_file)).of
    except UserError:
        return f"the file {protocol.candidate_file}"
    return f"the cosines of {of.get('model', 'an unknown model')} on {of.get('source', 'unknown data')}"


def _rule(protocol: ProtocolConfig) -> str:
    """How one of the candidates becomes the answer."""
    if protocol.task == "closed_world":
        return f"the question lists them; the answer is matched by protocol.match {protocol.match}"
    if protocol.task == "zero_shot":
        return "the highest cosine between image and class sentence"
    if protocol.task == "trained_probe":
        return "the highest probability by the linear probe that was trained with the model"
    how = f"{'mean' if protocol.rule == 'mean' or protocol.cfg_mean else 'sum'} of token "
    how += TOKEN_SCORES[protocol.token_scores]
    if protocol.rule == "cfg":
        how += f", guided (coefficient {protocol.guidance:g}, {protocol.cfg_form} form, prior {protocol.cfg_prior})"
    return f"the highest {how} (rule: {protocol.rule})"
