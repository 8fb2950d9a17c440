"""Compares the time of class scoring with the authors' loop and with one forward pass per class.

    python -m eval.benchmarks.class_scoring [--json] [--tokenizer DIR] [--loop-classes 40]

A random LLaMA of hidden size 512 (speed does not depend on weights), a prompt of 628 tokens as in LLaVA-1.5, class
names tokenized by the given tokenizer, one thread, CPU seconds, all in one process. The slow methods take hours for
1,000 names, so they are timed on a few names of different lengths and scaled by tokens (the loop) or by names; the
output says so. Both precisions are measured: fp32, in which all three methods agree to 1e-4, and bf16, which the
authors use. The loop is limited by memory bandwidth, ours by arithmetic, so their ratio differs much between machines;
on AMD processors ours is also measured with PyTorch's default matrix products (`eval.models.cpu_matmul`), which the
slow methods use.

The number of nodes that an exact top-1 needs depends on how confident the model is, so it is counted on a small LLaMA
that is trained here to name noisy features.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from configs.command_line import add_json, command_parser


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    arguments = _parser().parse_args(argv)
    from eval.benchmarks.class_scoring_speed import measure_and_print  # after parsing: --help needs no torch

    measure_and_print(arguments)


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__)
    parser.add_argument("--tokenizer", default="llava-hf/llava-1.5-7b-hf", help="folder, file or hub id (LLaMA's)")
    parser.add_argument("--prefix", type=int, default=628, help="tokens of the prompt (default 628)")
    parser.add_argument("--hidden", type=int, default=512, help="hidden size (default 512)")
    parser.add_argument("--layers", type=int, default=8, help="layers (default 8)")
    parser.add_argument("--loop-classes", type=int, default=40, help="names timed with the authors' loop")
    parser.add_argument("--full-classes", type=int, default=3, help="names timed with one forward pass per name")
    parser.add_argument("--no-top1", action="store_true", help="skip training a model for the top-1 counts")
    add_json(parser)
    return parser


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    main()
