r"""Scores every class name of an image, exactly, for little more than one forward over names' distinct beginnings.

    python -m eval.class_scoring --model DIR --image FILE --prompt "What type of object is in this photo?" \
        --answer-prefix "The photo features a" --classes FILE.json [--rule sum|mean|cfg] [--top1] --json

prints {"prefix_ids": [ids, the image token repeated], "classes": [{"name", "tokens": [ids], "logprobs": [floats]}],
"tokens_forwarded": n, "top1": name}; with --top1 only the best name, its score and the nodes it took. Pixels come from
the folder's own processor unless --image-mode says otherwise. `--classes` takes every form of a class list
(`data_prep/class_names.py`), also a shipped one by name: `imagenet`.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from configs.command_line import command_parser, exit_on_user_error
from configs.errors import ConfigError, DataError, UserError
from configs.protocol import ProtocolConfig
from data_prep.class_names import load_class_list
from data_prep.prompts import image_question
from data_prep.sample import IMAGE_PLACEHOLDER, Turn
from eval.class_scores.rules import Floats, Rule, class_scores
from eval.class_scores.trie import ClassTrie, answer_tokens
from eval.models.class_likelihood.search import Best
from eval.models.class_likelihood.tree_forward import Prefix, TreeForward, scoring_attention
from eval.models.class_likelihood.tree_scorer import TreeScorer
from eval.models.generate import Prompt, TextPredictor
from train.models.loading import load_model

SHOWN = 10  # classes, without --json


class ClassScorer:
    """Class names as answers of one model under one protocol.

    scorer = ClassScorer(predictor)
    trie = scorer.trie(turns, names)
    log_probs = scorer.log_probs([predictor.prompt(turns, image)], trie)      # (images, nodes)
    scores = class_scores(trie, Rule("mean"), log_probs)                      # (images, classes)
    """

    def __init__(self, predictor: TextPredictor):
        """Raises `ConfigError` for an attention kernel or a model that the tree does not fit."""
        self.predictor = predictor
        model = predictor.model
        decoder = predictor.family.language_model(model)
        words, head = model.get_input_embeddings(), model.get_output_embeddings()
        self.scorer = TreeScorer(TreeForward(decoder, head, words, model.config.get_text_config()))
        self._tries: dict[object, ClassTrie] = {}
        self._priors: dict[object, tuple[ClassTrie, Floats]] = {}
        self._prompt_tokens = 0

    @property
    def tokens_forwarded(self) -> int:
        """Tokens that went through the language model so far: prompts, and inner nodes."""
        return self._prompt_tokens + self.scorer.tokens_forwarded

    def trie(self, turns: tuple[Turn, ...], names: tuple[str, ...], terminator: bool = False) -> ClassTrie:
        """The tree of `names` as answers to `turns`; the last one is kept, as most protocols ask all the same."""
        key = (turns, names, terminator)
        if key not in self._tries:
            renderer = self.predictor.renderer
            tokens = answer_tokens(renderer, turns, self.predictor.answer_prefix, names)
            self._tries = {key: ClassTrie(tokens, renderer.eos if terminator else None)}
        return self._tries[key]

    def log_probs(self, prompts: Sequence[Prompt], trie: ClassTrie) -> Floats:
        """(B, nodes): each node's log-probability after the prompt and everything above it."""
        return self.scorer.log_probs(self._prefill(prompts, trie), trie)

    def top1(self, prompts: Sequence[Prompt], trie: ClassTrie, rule: Rule, prior: Floats | None = None) -> list[Best]:
        """The best class of every prompt, the same as the arg-max over all."""
        return self.scorer.top1(self._prefill(prompts, trie), trie, rule, prior)

    def prior_without_image(self, turns: tuple[Turn, ...], trie: ClassTrie) -> Floats:
        """(nodes,): log-probabilities of the names after the question alone; one more pass for all images."""
        if turns not in self._priors or self._priors[turns][0] is not trie:
            alone = tuple(Turn(turn.speaker, turn.text.replace(IMAGE_PLACEHOLDER, "").strip()) for turn in turns)
            self._priors = {turns: (trie, self.log_probs([self.predictor.prompt(alone, None)], trie)[0])}
        return self._priors[turns][1]

    @torch.inference_mode()
    def _prefill(self, prompts: Sequence[Prompt], trie: ClassTrie) -> Prefix:
        """Run the prompts. Raises `DataError` where prompt and name do not fit into the model."""
        longest = max(len(prompt.input_ids) for prompt in prompts)
        if longest + trie.depth > self.predictor.max_length:
            raise DataError(
                f"a question of {longest} tokens and a name of {trie.depth} exceed the model's "
                f"{self.predictor.max_length} positions; shorten the question"
            )
        window = self.scorer.tree.window
        if window is not None and trie.depth > window:
            raise DataError(f"a name of {trie.depth} tokens does not fit into the sliding window of {window}")
        ids, mask = self.predictor.padded(prompts)
        self._prompt_tokens += int(mask.sum())
        room = min(self.scorer.group, len(trie.inner)) + trie.depth
        return self.scorer.tree.prefill(self.predictor.embeddings(ids, prompts), mask, room)


def score_image(scorer: ClassScorer, question: str, image: bytes, names: Sequence[str], rule: Rule) -> dict[str, Any]:
    """Everything about one image: the content of --json."""
    turns = _turns(question)
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
    turns = _turns(question)
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


def _turns(question: str) -> tuple[Turn, ...]:
    return (Turn("human", question if IMAGE_PLACEHOLDER in question else image_question(question)),)


def main(argv: Sequence[str] | None = None) -> None:
    """Score one image. Exits with code 2 on a mistake in the arguments."""
    arguments = _parser().parse_args(argv)
    try:
        if not arguments.image.is_file():
            raise ConfigError(f"no image {arguments.image}; give the path of a picture")
        rule = Rule(arguments.rule, arguments.guidance, arguments.cfg_form, tokens=arguments.token_scores)
        names = load_class_list(arguments.classes).names
        protocol = ProtocolConfig(
            answer_prefix=arguments.answer_prefix,
            markup=arguments.markup,
            system_prompt=arguments.system_prompt,
            image_mode=arguments.image_mode,
            max_new_tokens=1,
        )
        device = "cuda" if torch.cuda.is_available() else "cpu"
        attention = scoring_attention("auto", device, arguments.dtype)
        loaded = load_model(arguments.model, None, arguments.dtype, attention, device)
        run = best_of_image if arguments.top1 else score_image
        scorer = ClassScorer(TextPredictor(loaded, protocol))
        result = run(scorer, arguments.prompt, arguments.image.read_bytes(), names, rule)
    except UserError as error:
        exit_on_user_error(error)
    print(json.dumps(result) if arguments.json else _as_text(result))


def _as_text(result: dict[str, Any]) -> str:
    lines = [f"{result['top1']}  ({result['tokens_forwarded']:,} tokens forwarded)"]
    if "nodes_expanded" in result:
        lines.append(f"score {result['score']:.4f}, {result['nodes_expanded']:,} of {result['inner_nodes']:,} nodes")
    ranked = sorted(result.get("classes", ()), key=lambda entry: -entry["score"])
    return "\n".join([*lines, *(f"{entry['score']:10.4f}  {entry['name']}" for entry in ranked[:SHOWN])])


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__)
    parser.add_argument("--model", required=True, metavar="DIR", help="model folder or hub id")
    parser.add_argument("--image", required=True, type=Path, metavar="FILE", help="a picture")
    parser.add_argument("--prompt", required=True, metavar="TEXT", help="the question; the image is put before it")
    parser.add_argument("--answer-prefix", default="", metavar="TEXT", help="the answer's beginning, before each name")
    parser.add_argument("--classes", required=True, metavar="FILE", help="class list: a file, or a shipped list's name")
    parser.add_argument("--rule", choices=("sum", "mean", "cfg"), default="sum", help="how tokens make a score")
    parser.add_argument(
        "--token-scores", choices=("log_probability", "probability"), default="log_probability", help="what is summed"
    )
    parser.add_argument("--guidance", type=float, default=1.5, metavar="T", help="coefficient of cfg (default 1.5)")
    parser.add_argument(
        "--cfg-form", choices=("probability", "log"), default="probability", help="paper's, or official"
    )
    parser.add_argument("--top1", action="store_true", help="find the best name only, without scoring all")
    parser.add_argument(
        "--image-mode", choices=("export", "pad", "crop"), default="export", help="default: the folder's"
    )
    parser.add_argument("--markup", default="family", help="as protocol.markup (default: the model family's own)")
    parser.add_argument("--system-prompt", default="family", help="as protocol.system_prompt (default: the family's)")
    parser.add_argument("--dtype", choices=("fp32", "bf16", "fp16"), default="fp32", help="precision (default fp32)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    main()
