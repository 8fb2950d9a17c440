"""Compares the time of greedy answers with transformers' `generate`: `python -m eval.benchmarks.generation [--json]`.

    python -m eval.benchmarks.generation [--json] [--batch 8] [--runs 3]
    python -m eval.benchmarks.generation --shape llava-1.5-7b --device cuda

Questions as in LLaVA-1.5 (35 tokens of system prompt, 576 of image, 17 of question) for a random LLaMA of hidden size
512 (speed does not depend on weights). Two kinds of answers: names (3 to 7 tokens) and open-ended (mean 20, from 5 to
35). Random models do not end their answers, so the end token's row of the head is fitted to each kind: its logit is the
largest at the step at which that answer should end, and at no earlier step. Both methods use this model and must give
the same tokens.

Ours starts without a cached system prompt each time. The methods run in turns and the minimum counts: CPU seconds with
one thread, or wall seconds on a GPU. On an AMD processor ours is also measured without oneDNN's products
(`eval.models.cpu_matmul`), so with the same matrix products as transformers.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from configs.command_line import add_json, command_parser


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    arguments = _parser().parse_args(argv)
    from eval.benchmarks.generation_speed import measure_and_print  # after parsing: --help needs no torch

    measure_and_print(arguments)


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__)
    parser.add_argument(
        "--shape", choices=("hidden-512", "llava-1.5-7b"), default="hidden-512", help="default hidden-512"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="cpu in fp32 (default), cuda in bf16")
    parser.add_argument("--batch", type=int, default=8, help="questions at a time (default 8)")
    parser.add_argument("--runs", type=int, default=3, help="times each side is measured; the least counts")
    parser.add_argument("--hidden", type=int, help="hidden size other than the shape's")
    parser.add_argument("--layers", type=int, help="layers other than the shape's")
    parser.add_argument("--image-tokens", type=int, default=576, help="tokens an image (default 576)")
    add_json(parser)
    return parser


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    main()
