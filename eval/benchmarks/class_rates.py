"""Images a second of each way to score ImageNet's names."""

import argparse
import re
import sys
from collections.abc import Iterator
from typing import Any

import torch

from configs.command_line import STDOUT, emit_json, exit_on_user_error
from configs.errors import ConfigError, UserError
from data_prep.class_names import load_class_list
from eval.benchmarks.class_scoring_speed import class_tokens
from eval.benchmarks.rates import GOALS, LABELS, RateOptions, measured_rates, ratios
from train.models.llava import LlavaFamily
from train.toy.random_models import random_model

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


def measure_and_print(arguments: argparse.Namespace) -> None:
    """Measure and print, each rate as it is measured. Exits with code 2 on a mistake in the arguments."""
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
