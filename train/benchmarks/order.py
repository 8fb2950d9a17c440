"""Time of sample order and packing, and padding compared with LLaVA's sampler: `python -m train.benchmarks.order`.

Runs on a synthetic manifest of ImageNet's 1,281,167 and LLaVA-665K's 665,298 samples. Their lengths are modelled: an
ImageNet conversation has 576 image tokens, 57 of prompt and a name; the parts of the 665K mixture have the sizes in
LLaVA-1.5's table and log-normal text lengths of estimated medians. Both samplers get the same lengths in one process.
"""

from configs.command_line import add_json, command_parser


def main() -> None:
    """Measure and print; the plan is first, so that the peak memory is that of the plan."""
    parser = command_parser(__doc__)
    add_json(parser)
    parser.add_argument("--steps", type=int, default=1000, help="steps over which padding is measured (default 1000)")
    arguments = parser.parse_args()
    from train.benchmarks.order_plan import measure_and_print  # after parsing: --help needs no torch

    measure_and_print(arguments)


if __name__ == "__main__":
    main()
