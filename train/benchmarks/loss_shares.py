"""How much each source counts in the loss, by reduction and order: `python -m train.benchmarks.loss_shares [--json]`.

A step's loss is a weighted sum over target tokens; a source's share is the sum of its weights, averaged over the steps
of an epoch. Without --config the samples are modelled: ImageNet and LLaVA-665K, with the texts of
`train.benchmarks.order` and a guessed fraction of answers in each. With --config the tokens of its shards are counted.
"""

from pathlib import Path

from configs.command_line import add_json, command_parser


def main() -> None:
    """Print the shares, or write them as JSON."""
    parser = command_parser(__doc__)
    parser.add_argument("--config", type=Path, metavar="FILE", help="a run, whose shards are counted")
    parser.add_argument("--batch", type=int, default=64, help="samples of a step (default 64)")
    parser.add_argument("--world", type=int, default=4, help="ranks (default 4)")
    parser.add_argument("--micro-batch", type=int, default=8, help="samples of a forward (default 8)")
    add_json(parser, "the shares")
    arguments = parser.parse_args()
    from train.benchmarks.source_shares import measure_and_print  # after parsing: --help needs no torch

    measure_and_print(arguments)


if __name__ == "__main__":
    main()
