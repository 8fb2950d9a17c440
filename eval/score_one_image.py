"""The scores of all names of a class list for one image, next to the answer that the model generates."""

import argparse
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from configs.command_line import emit_json, exit_on_user_error
from configs.data import APPLY
from configs.errors import ConfigError, UserError
from configs.protocol import ProtocolConfig
from configs.trained import training_record_of_model
from data_prep.class_names import load_class_list
from data_prep.images import read_image_file
from data_prep.orientation import UprightImage
from eval.class_scores.rules import Rule
from eval.models.class_likelihood.scorer import ClassScorer
from eval.models.class_likelihood.single_image import best_of_image, question_turns, score_image
from eval.models.class_likelihood.tree_forward import scoring_attention
from eval.models.generate import TextPredictor
from eval.scorers.class_name import stated_mentions, words_of
from eval.types import Failure
from train.exported_model import model_folders
from train.models.loading import load_model

MAX_PRINTED_CLASSES = 10  # classes, without --json
ANSWER_TOKENS = 64


def score_and_print(arguments: argparse.Namespace) -> None:
    """Score one image. Exits with code 2 on a mistake in the arguments."""
    try:
        if not arguments.image.is_file():
            raise ConfigError(f"no image {arguments.image}; give the path of a picture")
        image = read_image_file(arguments.image)
        rule = Rule(arguments.rule, arguments.guidance, arguments.cfg_form, tokens=arguments.token_scores)
        names = load_class_list(arguments.classes).names
        result = _result(arguments, image, names, rule)
    except UserError as error:
        exit_on_user_error(error)
    if not emit_json(arguments.json, result):
        print(_best_as_text(result) if arguments.top1 else as_text(result, rule))


def _result(arguments: argparse.Namespace, image: bytes, names: tuple[str, ...], rule: Rule) -> dict[str, Any]:
    protocol = ProtocolConfig(
        answer_prefix=arguments.answer_prefix,
        template=arguments.template,
        system_prompt=arguments.system_prompt,
        image_mode=arguments.image_mode,
        max_new_tokens=1,
    )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    attention = scoring_attention("auto", device, arguments.dtype)
    ((_, folder),) = model_folders(arguments.model)  # of a run its export
    loaded = load_model(str(folder), None, arguments.dtype, attention, device)
    scorer = ClassScorer(TextPredictor(loaded, protocol), score_eos=arguments.score_eos)
    trained = training_record_of_model(str(folder))
    if trained is not None and trained.data.exif == APPLY:
        image = UprightImage(image)
    if arguments.top1:
        return best_of_image(scorer, arguments.prompt, image, names, rule)
    result = score_image(scorer, arguments.prompt, image, names, rule)
    asked = TextPredictor(loaded, replace(protocol, max_new_tokens=ANSWER_TOKENS))
    return result | _generated(asked, arguments.prompt, image)


def _generated(predictor: TextPredictor, question: str, image: bytes) -> dict[str, Any]:
    """The greedy answer as `answer`; None, with `no_answer`, where the model's positions have no room for one."""
    try:
        (answer,) = predictor.predict([predictor.prompt(question_turns(question), image)])
    except UserError as error:
        return {"answer": None, "no_answer": str(error)}
    if isinstance(answer, Failure):
        return {"answer": None, "no_answer": answer.reason}
    return {"answer": answer.text}


def _best_as_text(result: dict[str, Any]) -> str:
    nodes = f"{result['nodes_expanded']:,} of {result['inner_nodes']:,} nodes"
    return f"{result['top1']}  ({result['tokens_forwarded']:,} tokens forwarded)\nscore {result['score']:.4f}, {nodes}"


def as_text(result: dict[str, Any], rule: Rule) -> str:
    """The generated answer, then a row for each class with its probability, best first by `rule`; what to know."""
    classes = sorted(result["classes"], key=lambda entry: -entry["score"])
    names = tuple(entry["name"] for entry in classes)
    answer = result["answer"]
    stated = sorted({mention.name for mention in stated_mentions(words_of(answer), names)}) if answer else []
    named = f"the class {stated[0]}" if len(stated) == 1 else f"{len(stated) or 'none'} of the classes"
    lines = [f"answer: {answer!r}, which names {named}" if answer is not None else f"no answer: {result['no_answer']}"]
    own = rule.kind not in ("sum", "mean") or rule.sums_probabilities
    head = ("probability", "log", "per token", "log", *([rule.kind] if own else []), "tokens")
    rows = [(*_numbers(entry, own=own), entry["name"]) for entry in classes[:MAX_PRINTED_CLASSES]]
    lines += ["", "  ".join([*(f"{name:>11}" for name in head), "class"])]
    lines += ["  ".join([*(f"{number:>11}" for number in row[:-1]), row[-1]]) for row in rows]
    if len(classes) > len(rows):
        lines.append(f"... and {len(classes) - len(rows):,} more: --json prints all")
    lines.append(f"sorted by rule {rule.kind}; probability: of the whole name as the answer's beginning (rule sum)")
    return "\n".join([*lines, *_notes(classes)])


def _numbers(entry: dict[str, Any], *, own: bool) -> list[str]:
    total, count = sum(entry["logprobs"]), len(entry["tokens"])
    mean = total / count
    score = [f"{entry['score']:.4g}"] if own else []
    return [_share(total), f"{total:.2f}", _share(mean), f"{mean:.2f}", *score, str(count)]


def _share(log_probability: float) -> str:
    share = 100 * math.exp(log_probability)
    return f"{share:.2f} %" if share >= 0.01 else f"{share:.0e} %"


def _notes(classes: Sequence[dict[str, Any]]) -> list[str]:
    """Where the rules prefer different names, and where a name is never less probable than another that it begins."""
    sums = {entry["name"]: sum(entry["logprobs"]) for entry in classes}
    means = {entry["name"]: sums[entry["name"]] / len(entry["tokens"]) for entry in classes}
    by_sum, by_mean = max(sums, key=sums.__getitem__), max(means, key=means.__getitem__)
    lengths = [len(entry["tokens"]) for entry in classes]
    notes = []
    if by_sum != by_mean:
        notes.append(
            f"note: the rules disagree: {by_sum!r} has the highest probability (--rule sum), {by_mean!r} the highest "
            f"mean per token (--rule mean). The names have {min(lengths)} to {max(lengths)} tokens, and a sum favours "
            "short names"
        )
    ids = {tuple(entry["tokens"]): entry["name"] for entry in classes}
    begun = [(ids[path[:end]], name) for path, name in ids.items() for end in range(1, len(path)) if path[:end] in ids]
    if begun:
        notes.append(
            f"note: {begun[0][0]!r} begins {begun[0][1]!r}, so it is never less probable; --score-eos scores the end "
            "of each name too"
        )
    return notes
