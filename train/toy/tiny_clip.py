"""Trains a tiny but real CLIP from any labelled shard set: a plain transformers folder, in minutes on two cores.

    python -m train.toy.tiny_clip --config configs/cifar10.yaml --source train --output runs/cifar10_clip

A `CLIPModel` (vision and text transformer, projections, temperature) is trained from scratch to match images with
sentences: the class name in a few templates. So the rows of the paper that need a CLIP can be run without downloading
one, and a linear head or a small LLaVA can use its vision tower. Two trainings on one machine with the same number of
threads (OMP_NUM_THREADS) are equal bit for bit.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from configs.command_line import add_output_folder, command_parser
from train.toy.clip_recipe import ClipRecipe


def main(argv: Sequence[str] | None = None) -> None:
    """The command line. Exits with code 2 on a mistake in configuration or data."""
    recipe = ClipRecipe()
    parser = command_parser(__doc__)
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="a run or an evaluation")
    parser.add_argument("--source", required=True, help="source of data.sources to train on; its shards must exist")
    add_output_folder(parser, "the model")
    parser.add_argument("--epochs", type=int, default=recipe.epochs, help="passes over the images")
    parser.add_argument("--image-size", type=int, default=recipe.image_size, help="side in pixels")
    parser.add_argument("--patch-size", type=int, default=recipe.patch_size, help="side of a patch in pixels")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args(argv)
    from train.toy.clip_training import train_and_print  # after parsing: --help needs no torch

    train_and_print(options)


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    main()
