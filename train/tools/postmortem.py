"""What happened to a run: `python -m train.tools.postmortem runs/NAME [runs/OTHER] [--samples 12]`

Prints the monitor's events with the samples of the flagged steps, and writes `runs/NAME/postmortem.html`: the loss
curves of each source with marks at the events, held-out losses, the gradient norm, learning rates, and the samples of
each flagged step. With a second run, the paper's Figure 5: both losses in one plot, LoRA against projector-only. Needs
no GPU and loads no model; the samples come from the shards, since the order is a pure function of the step.
"""

from collections.abc import Sequence
from pathlib import Path

from configs.command_line import at_least, command_parser


def main(argv: Sequence[str] | None = None) -> None:
    """Print the events and flagged samples of a run, and write the page. Exits with code 2 without a run."""
    parser = command_parser(__doc__)
    parser.add_argument("run", type=Path, help="folder of the run, such as runs/imagenet_lora")
    parser.add_argument("other", type=Path, nargs="?", help="a run to compare it with, such as runs/imagenet_projector")
    parser.add_argument(
        "--samples", type=at_least(0), default=12, metavar="N", help="number of samples shown of each step (default 12)"
    )
    arguments = parser.parse_args(argv)
    from train.tools.postmortem_page import write_and_print  # after parsing: --help needs no torch

    write_and_print(arguments)


if __name__ == "__main__":
    main()
