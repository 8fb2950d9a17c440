"""Trains a tiny but real CLIP from any labelled shard set: a plain transformers folder, in minutes on two cores.

    python -m train.toy.tiny_clip --config configs/cifar10.yaml --source train --output runs/cifar10_clip

A `CLIPModel` (vision and text transformer, projections, temperature) is trained from scratch to match images with
sentences: the class name in a few templates. So the rows of the paper that need a CLIP can be run without downloading
one, and a linear head or a small LLaVA can use its vision tower.

The number of threads is measured, or given by `--threads`. Its state is saved every minute and on Ctrl-C (exit code
130); the same command then continues, to the same weights bit for bit as without the break. Two trainings on one
machine with the same number of threads are equal bit for bit.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from configs.command_line import add_output_folder, at_least, command_parser
from train.supervision import signals
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
    parser.add_argument(
        "--threads", type=at_least(1), metavar="N", help="threads of PyTorch (default: OMP_NUM_THREADS, else measured)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the weights and of the order")
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override one setting of the config",
    )
    options = parser.parse_args(argv)
    from train.toy.clip_training import train_and_print  # after parsing: --help needs no torch

    train_and_print(options)


if __name__ == "__main__":
    signals.install(("SIGINT", "SIGTERM"))
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    main()
