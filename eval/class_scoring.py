r"""Scores every class name of an image, exactly, for little more than one forward pass over names' distinct beginnings.

    python -m eval.class_scoring --model DIR --image FILE --prompt "What type of object is in this photo?" \
        --answer-prefix "The photo features a" --classes FILE.json [--rule sum|mean|cfg] [--top1] --json

prints {"prefix_ids": [ids, the image token repeated], "classes": [{"name", "tokens": [ids], "logprobs": [floats]}],
"tokens_forwarded": n, "top1": name}; with --top1 only the best name, its score and the nodes it took. Pixels come from
the folder's own processor unless --image-mode says otherwise. `--classes` takes every form of a class list
(`data_prep/class_names.py`), also a shipped one by name: `imagenet`.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from configs.command_line import add_json, command_parser, emit_json, exit_on_user_error
from configs.errors import ConfigError, UserError
from configs.protocol import ProtocolConfig
from data_prep.class_names import load_class_list
from eval.class_scores.rules import Rule
from eval.models.class_likelihood.scorer import ClassScorer
from eval.models.class_likelihood.single_image import best_of_image, score_image
from eval.models.class_likelihood.tree_forward import scoring_attention
from eval.models.generate import TextPredictor
from train.models.loading import load_model

MAX_PRINTED_CLASSES = 10  # classes, without --json


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
            template=arguments.template,
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
    if not emit_json(arguments.json, result):
        print(_as_text(result))


def _as_text(result: dict[str, Any]) -> str:
    lines = [f"{result['top1']}  ({result['tokens_forwarded']:,} tokens forwarded)"]
    if "nodes_expanded" in result:
        lines.append(f"score {result['score']:.4f}, {result['nodes_expanded']:,} of {result['inner_nodes']:,} nodes")
    ranked = sorted(result.get("classes", ()), key=lambda entry: -entry["score"])
    return "\n".join([*lines, *(f"{entry['score']:10.4f}  {entry['name']}" for entry in ranked[:MAX_PRINTED_CLASSES])])


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
        "--image-mode", choices=("trained", "export", "pad", "crop"), default="trained", help="default: the folder's"
    )
    parser.add_argument(
        "--template", default="trained", help="as protocol.template (default: as the model was trained)"
    )
    parser.add_argument("--system-prompt", default="trained", help="as protocol.system_prompt (default: as trained)")
    parser.add_argument("--dtype", choices=("fp32", "bf16", "fp16"), default="fp32", help="precision (default fp32)")
    add_json(parser)
    return parser


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    main()
