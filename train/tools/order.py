"""Prints the sample ids that each rank reads: `python -m train.tools.order --config FILE --world W --epoch E`.

Uses the sample order, the partition over ranks and the data loader (with worker processes) of training, but reads only
the samples' ids. No image is decoded and no model is loaded.

    step 0  rank 0: pictures/3 pictures/17  rank 1: talk/4 pictures/8
"""

import argparse

from configs.command_line import add_base_model, add_json, config_of, config_parser, exit_on_user_error
from configs.errors import UserError
from configs.run import RunConfig


def main() -> None:
    """Parse, plan the order, read it, print it."""
    arguments = parse_arguments()
    try:
        config = config_of(arguments, RunConfig)
    except UserError as error:
        exit_on_user_error(error)
    from train.tools.epoch_order import print_order  # after parsing: --help needs no torch

    print_order(config, arguments)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = config_parser(__doc__, RunConfig)
    add_base_model(parser)
    parser.add_argument("--world", type=int, default=1, help="number of ranks (default 1)")
    parser.add_argument("--workers", type=int, help="data-loading processes per rank (default: train.workers)")
    parser.add_argument("--epoch", type=int, default=0, help="epoch, counted from 0 (default 0)")
    parser.add_argument("--from-step", type=int, default=0, help="first step, counted within the epoch (default 0)")
    add_json(parser, 'the order as {"epoch": E, "steps": [{"step": s, "ranks": [...]}]}')
    return parser.parse_args()


if __name__ == "__main__":
    main()
