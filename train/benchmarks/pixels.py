"""Image bytes to uint8 pixels against transformers: `python -m train.benchmarks.pixels [--images PATH]`

One core, the same JPEGs on both sides, both sides taking turns in this process. `transformers` is
`LlavaImageProcessorPil(do_pad=True)` as it is called for training (normalized float32); `llava` is LLaVA's own path,
`expand2square` in PIL and then `CLIPImageProcessorPil`. Ours gives uint8, which is normalized on the device.
"""

from collections.abc import Sequence
from pathlib import Path

from configs.command_line import add_json, command_parser


def main(argv: Sequence[str] | None = None) -> None:
    """Print images a second of each side, the ratios and the largest difference; exit with 1 below a goal."""
    parser = command_parser(__doc__)
    parser.add_argument("--images", type=Path, help="folder or tar of JPEGs (default: pictures made for the purpose)")
    parser.add_argument("--count", type=int, default=100, help="how many images (default 100)")
    parser.add_argument("--size", type=int, default=336, help="side of the result in pixels (default 336)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds; the best counts (default 3)")
    add_json(parser)
    arguments = parser.parse_args(argv)
    from train.benchmarks.pixel_rates import measure_and_print  # after parsing: --help needs no torch

    measure_and_print(arguments)


if __name__ == "__main__":
    main()
