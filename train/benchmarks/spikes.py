"""Detection quality of the loss-spike monitor: `python -m train.benchmarks.spikes [--seeds fixed|fresh|both] [--live]`

14 faults in 4 kinds of noise (`train.benchmarks.spike_traces`), compared with published rules (`spike_peers`).
The fixed seeds are 0 to 4; fresh seeds are drawn for each run and printed, so that thresholds cannot be fitted to them.
`--live` trains a tiny LoRA model with DeepSpeed on two ranks instead, with 6 faults, with and without actions, once
with the first of the fixed and once with the first of the fresh seeds (`train.benchmarks.spikes_live`). Exit code 1 if
a target is missed.
"""

from collections.abc import Sequence

from configs.command_line import add_json, command_parser


def main(argv: Sequence[str] | None = None) -> None:
    """Run the selected benchmarks."""
    parser = command_parser(__doc__)
    add_json(parser)
    parser.add_argument(
        "--seeds", choices=("fixed", "fresh", "both"), default="both", help="which noise (default both)"
    )
    parser.add_argument("--live", action="store_true", help="train a tiny model with faults instead (minutes)")
    arguments = parser.parse_args(argv)
    from train.benchmarks.spike_tables import measure_and_print  # after parsing: --help needs no torch

    measure_and_print(arguments)


if __name__ == "__main__":
    main()
