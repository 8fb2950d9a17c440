"""Images per second of a complete LLaVA with random weights: best name, greedy answers, all names; and transformers'.

    python -m eval.benchmarks.image_rates --shape llava-1.5-7b --device cuda [--batch 1,8,64] [--json]
    python -m eval.benchmarks.image_rates --shape tiny --device cpu

From uint8 pixels on the device (no JPEGs are decoded) through vision tower, projector and language model, in bf16 on a
GPU and fp32 on a CPU; `eval.benchmarks.rates` has the ways. Names are ImageNet's, tokenized with `--tokenizer`, or else
cut into pieces of four letters, whose tree is about as large (1,928 inner nodes; LLaMA's tokens have 1,866), after 35
tokens of system prompt, the image and 17 tokens of question; answers have 5 tokens, as those of fine-tuned models. Only
the speed of the best name depends on weights: logits are multiplied by `--sharpness` for it, so that the model is
confident, and the output has the number of nodes that were needed.

Compared in the same run: transformers' `generate`, and one forward pass a name, scaled from `--names-forwarded` names.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from configs.command_line import add_json, command_parser
from train.toy.shapes import SHAPES


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print, each rate as it is measured. Exits with code 2 on a mistake in the arguments."""
    arguments = _parser().parse_args(argv)
    from eval.benchmarks.class_rates import measure_and_print  # after parsing: --help needs no torch

    measure_and_print(arguments)


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__)
    parser.add_argument("--shape", choices=tuple(SHAPES), default="llava-1.5-7b", help="default llava-1.5-7b")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda", help="default cuda")
    parser.add_argument("--tokenizer", help="folder, file or hub id (LLaMA's); without it, pieces of four letters")
    parser.add_argument(
        "--batch", type=_batches, default=(8, 64), help="images at a time, such as 1,8,64 (default 8,64)"
    )
    parser.add_argument("--sharpness", type=float, default=10.0, help="factor of the logits (default 10)")
    parser.add_argument("--runs", type=int, default=3, help="times each way is measured; the least counts")
    parser.add_argument(
        "--kernels", choices=("auto", "none", "compile", "liger"), default="auto", help="as an evaluation's"
    )
    parser.add_argument("--names-forwarded", type=int, default=4, help="names of one forward pass each (default 4)")
    add_json(parser)
    return parser


def _batches(text: str) -> tuple[int, ...]:
    numbers = tuple(int(part) for part in text.split(",") if part.isdecimal())
    if len(numbers) != len(text.split(",")) or min(numbers) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers such as 1,8,64")
    return tuple(dict.fromkeys(numbers))


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    main()
