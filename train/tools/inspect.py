# noqa: A005 - named for what a user types: python -m train.tools.inspect
"""Prints samples as the model reads them.

`python -m train.tools.inspect --config configs/demo.yaml [--source NAME] [--samples 3]`

The samples are those that `data_prep.inspect` shows for the same `--seed`, `--label` or `--number`, rendered with the
tokenizer and the chat settings of a run. Supervised tokens are green (between ⟦ and ⟧ where the
output is no terminal), an image is shown as its number of tokens, and each sample's token counts and truncation are
printed. Needs no weights and no GPU.
"""

import argparse
from collections.abc import Sequence

from configs.command_line import add_base_model, at_least, config_of, config_parser, exit_on_user_error
from configs.errors import UserError
from configs.run import RunConfig


def main(argv: Sequence[str] | None = None) -> None:
    """Print samples of one source, or of every source that is trained on. Exits with code 2 on a user's mistake."""
    arguments = _parser().parse_args(argv)
    try:
        config = config_of(arguments, RunConfig)
    except UserError as error:
        exit_on_user_error(error)
    from train.tools.sample_text import print_samples  # after parsing: --help needs no torch

    print_samples(config, arguments)


def _parser() -> argparse.ArgumentParser:
    parser = config_parser(__doc__, RunConfig)
    add_base_model(parser)
    parser.add_argument("--source", metavar="NAME", help="only this source (default: all of train.sources)")
    parser.add_argument("--samples", type=at_least(0), default=3, metavar="N", help="samples per source (default 3)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random choice (default 0)")
    parser.add_argument("--label", type=int, metavar="INDEX", help="only samples of the class with this index")
    parser.add_argument("--number", type=int, metavar="I", help="only the sample with this number")
    return parser


if __name__ == "__main__":
    main()
