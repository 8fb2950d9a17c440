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
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from configs.command_line import STDOUT, add_json, command_parser, emit_json, exit_on_user_error
from configs.errors import ConfigError, UserError
from data_prep.class_names import load_class_list
from eval.benchmarks.class_scoring import class_tokens
from eval.benchmarks.rates import GOALS, LABELS, RateOptions, measured_rates, ratios
from train.models.llava import LlavaFamily
from train.toy.random_models import SHAPES, random_model

PIECE = 4  # letters


def measure(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The rates of a random model, one by one. Raises `ConfigError` for a GPU that is not there."""
    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device is cuda, and PyTorch finds no GPU; use --device cpu with --shape tiny")
    dtype = torch.float32 if arguments.device == "cpu" else torch.bfloat16
    model = random_model(arguments.shape, dtype, device=arguments.device)
    family = LlavaFamily(model.config)
    names = imagenet_tokens(arguments.tokenizer, family.text_config.vocab_size)
    options = RateOptions(
        batches=arguments.batch,
        runs=arguments.runs,
        sharpness=arguments.sharpness,
        names_forwarded=arguments.names_forwarded,
        kernels=arguments.kernels,
    )
    yield from measured_rates(model, family, names, options)


def imagenet_tokens(tokenizer: str | None, vocabulary: int) -> list[list[int]]:
    """Ids below `vocabulary` of ImageNet's names; without a tokenizer, of their pieces of four letters."""
    if tokenizer is not None:
        return [[token % vocabulary for token in name] for name in class_tokens(tokenizer, "imagenet")]
    known: dict[str, int] = {}
    rows = []
    for name in load_class_list("imagenet").names:
        words = re.findall(r"\w+|[^\w\s]", name)
        pieces = [word[start : start + PIECE] for word in words for start in range(0, len(word), PIECE)]
        rows.append([5 + known.setdefault(piece, len(known)) % (vocabulary - 5) for piece in pieces])
    return rows


def as_text(rate: dict[str, Any], *, with_goal: bool) -> str:
    """One rate as a line of text, with the goal for a 7B model where there is one."""
    way, batch = rate["way"], rate["batch"]
    if "error" in rate:
        return f"  {LABELS[way]}, {batch} at a time: {rate['error']}"
    aim = f" (goal {GOALS[way, batch]:.0f} on an H200)" if with_goal and (way, batch) in GOALS else ""
    more = f", {rate['mean_nodes']:.1f} nodes an image" if "mean_nodes" in rate else ""
    more += f", scaled from {rate['scaled_from_names']} names" if "scaled_from_names" in rate else ""
    more += f", {rate['peak_gib']:.1f} GiB" if "peak_gib" in rate else ""
    return f"  {LABELS[way]}, {batch} at a time: {rate['images_per_second']:.3g} images/s{aim}{more}"


def _batches(text: str) -> tuple[int, ...]:
    numbers = tuple(int(part) for part in text.split(",") if part.isdecimal())
    if len(numbers) != len(text.split(",")) or min(numbers) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers such as 1,8,64")
    return tuple(dict.fromkeys(numbers))


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


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print, each rate as it is measured. Exits with code 2 on a mistake in the arguments."""
    arguments = _parser().parse_args(argv)
    found: list[dict[str, Any]] = []
    shown = sys.stderr if arguments.json == STDOUT else sys.stdout
    print(f"{arguments.shape} on {arguments.device}, ImageNet's names", file=shown)
    try:
        for rate in measure(arguments):
            found.append(rate)
            print(as_text(rate, with_goal=arguments.shape == "llava-1.5-7b"), file=shown, flush=True)
    except UserError as error:
        exit_on_user_error(error)
    compared = ratios(found)
    result = {"shape": arguments.shape, "device": arguments.device, "rates": found, "ratios": compared}
    if not emit_json(arguments.json, result):
        print("\n".join(f"  {pair}: {ratio:.3g} times as many images/s" for pair, ratio in compared.items()))


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    main()
