"""A decoder layer with LoRA, forward and backward: this project's adapted layers against peft's.

    python -m train.benchmarks.lora                                   # one CPU thread, about a minute
    python -m train.benchmarks.lora --tokens 1266 --json lora.json

Bytes kept for the backward pass are counted without a GPU at the size of LLaVA-1.5-7B, rank 128, as a GPU keeps them
(`train.models.activation_memory`). Kernels, CPU seconds and the difference of the gradients without dropout are those
of a small layer of the same proportions, both sides in turns in one process. A dropout mask and what it is applied to
count as one kernel, as on a GPU; allocations and views count as none.
"""

import argparse

from configs.command_line import add_json, command_parser


def main() -> None:
    """Measure and print."""
    arguments = _arguments()
    from train.benchmarks.lora_layer import measure_and_print  # after parsing: --help needs no torch

    measure_and_print(arguments)


def _arguments() -> argparse.Namespace:
    parser = command_parser(__doc__)
    parser.add_argument("--tokens", type=int, default=633, help="of the small layer's input (default 633)")
    parser.add_argument("--dropout", type=float, default=0.05, help="as model.lora.dropout (default 0.05)")
    parser.add_argument("--dtype", choices=("bf16", "fp32"), default="fp32", help="of the small layer (default fp32)")
    parser.add_argument("--rounds", type=int, default=5, help="of the timing, each side once (default 5)")
    add_json(parser)
    return parser.parse_args()


if __name__ == "__main__":
    main()
