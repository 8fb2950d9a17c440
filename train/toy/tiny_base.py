"""Builds the demo world's base model: a tiny but real LLaVA, trained in LLaVA's stages on a CPU.

    python -m train.toy.tiny_base --output train/assets/tiny_llava

1. A CLIP vision tower learns to distinguish every class of the world (`train.toy.base_vision`).
2. A Llama learns every name and every fact from text only (`train.toy.base_language`).
3. A projector is trained on captions and conversations in which few classes are common and most are rare
   (`train.toy.base_projector`).
4. Tokens for letters are added, so that other names than the world's can be spelled (`train.toy.base_spelling`).

So the finished model distinguishes all classes and knows the facts about them, but can name only the common ones: the
paper's finding, caused by the *data*, as in LLaVA. The folder is in Hugging Face's format; `measures.json` has the
model's accuracies, measured at the end of the build.

A build takes about ten minutes on two CPU cores; two builds on one machine with the same package versions are equal
bit for bit. `--quick` does two steps per stage (seconds) to test that it runs.
"""

import os
import sys
from pathlib import Path

from configs.command_line import command_parser


def main(arguments: list[str] | None = None) -> int:
    """The command line. Returns the exit code."""
    parser = command_parser(__doc__)
    parser.add_argument("--output", type=Path, required=True, help="folder to write, e.g. train/assets/tiny_llava")
    parser.add_argument("--quick", action="store_true", help="two steps per stage, as a test; the model learns nothing")
    options = parser.parse_args(arguments)
    from train.toy.base_build import build_and_print  # after parsing: --help needs no torch

    return build_and_print(options)


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    sys.exit(main())
