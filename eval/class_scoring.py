r"""Scores every class name of an image, exactly, for little more than one forward pass over names' distinct beginnings.

    python -m eval.class_scoring --model DIR --image FILE --prompt "What type of object is in this photo?" \
        --answer-prefix "The photo features a" --classes FILE.json [--rule sum|mean|cfg] [--top1] --json

prints the answer that the model generates and the class it names, and of every class name the probability and the
geometric mean over its tokens. The two rules can prefer different names: a name of many tokens is rarely the most
probable one. With --json: {"prefix_ids": [ids, the image token repeated], "classes": [{"name", "tokens": [ids],
"logprobs": [floats], "score", "probability"}], "tokens_forwarded": n, "top1": name, "answer": text}; with --top1 only
the best name, its score and the nodes it took. Pixels come from the folder's own processor unless --image-mode says
otherwise. `--classes` takes every form of a class list
(`data_prep/class_names.py`), also a shipped one by name, `imagenet`, or the shards of a run, `shards/my_photos/train`.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from configs.command_line import add_json, command_parser


def main(argv: Sequence[str] | None = None) -> None:
    """Score one image. Exits with code 2 on a mistake in the arguments."""
    arguments = _parser().parse_args(argv)
    print(f"loading PyTorch and {arguments.model} ...", file=sys.stderr, flush=True)
    from eval.score_one_image import score_and_print  # after parsing: --help needs no torch

    score_and_print(arguments)


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__)
    parser.add_argument("--model", required=True, metavar="DIR", help="a run, an export, a model folder or a hub id")
    parser.add_argument("--image", required=True, type=Path, metavar="FILE", help="a picture")
    parser.add_argument("--prompt", required=True, metavar="TEXT", help="the question; the image is put before it")
    parser.add_argument("--answer-prefix", default="", metavar="TEXT", help="the answer's beginning, before each name")
    parser.add_argument("--classes", required=True, metavar="FILE", help="a class list's file or name, or a shard set")
    parser.add_argument("--rule", choices=("sum", "mean", "cfg"), default="sum", help="how tokens make a score")
    parser.add_argument(
        "--token-scores", choices=("log_probability", "probability"), default="log_probability", help="what is summed"
    )
    parser.add_argument("--guidance", type=float, default=1.5, metavar="T", help="coefficient of cfg (default 1.5)")
    parser.add_argument(
        "--cfg-form", choices=("probability", "log"), default="probability", help="paper's, or official"
    )
    parser.add_argument(
        "--score-eos", action="store_true", help="score each name's end token too: a name may begin another"
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
