"""Speed of training: the real loader on generated JPEGs, the real loop, a randomly initialised model.

    python -m train.benchmarks.training --shape llava-1.5-7b --mode projector --micro-batch 16            (one GPU)
    python -m train.benchmarks.training --shape tiny --mode lora --micro-batch 4 --json out.json     (a CPU will do)
    python -m train.benchmarks.training --shape 7b-proportions --dtype fp32 --micro-batch 2 --against-transformers

Speed does not depend on the weights. The figures are those of the run's metrics after the warm-up steps:
samples/s, tokens/s, MFU where the device's peak is known, peak memory, and the share of a step spent waiting for data.

With `--against-transformers` nothing is trained: forward and backward of one batch, by this project and by plain
transformers with and without activation checkpointing, in turns; FLOPs, time, loss and gradients of each.
"""

import argparse

from configs.command_line import add_json, command_parser
from train.toy.shapes import SHAPES


def main() -> None:
    """Make data and model in a temporary folder, train, print the figures."""
    arguments = _arguments()
    from train.benchmarks.training_speed import measure_and_print  # after parsing: --help needs no torch

    measure_and_print(arguments)


def _arguments() -> argparse.Namespace:
    parser = command_parser(__doc__)
    parser.add_argument("--shape", choices=tuple(SHAPES), default="tiny", help="of the random model (default tiny)")
    modes = ("projector", "lora", "full")
    parser.add_argument("--mode", choices=modes, default="projector", help="what trains, as model.mode")
    parser.add_argument("--micro-batch", type=int, default=8, help="samples per forward")
    parser.add_argument("--accumulation", type=int, default=1, help="micro-batches per optimizer step")
    parser.add_argument("--steps", type=int, default=10, help="measured steps, after 3 to warm up")
    parser.add_argument("--dtype", choices=("bf16", "fp32"), default="bf16", help="as model.dtype (default bf16)")
    parser.add_argument(
        "--zero-stage", type=int, choices=(0, 1, 2, 3), default=1, help="as deepspeed.zero_stage (default 1)"
    )
    parser.add_argument("--attention", default="auto", help="kernel, as model.attention (default auto)")
    parser.add_argument(
        "--kernels", choices=("auto", "none", "compile", "liger"), default="auto", help="as model.kernels"
    )
    parser.add_argument(
        "--activation-checkpointing",
        nargs="?",
        const="true",
        default="false",
        choices=("false", "true", "selective"),
        help="recompute activations, as model.activation_checkpointing: less memory, more work",
    )
    parser.add_argument(
        "--against-transformers", action="store_true", help="compare one batch with transformers' own forward pass"
    )
    parser.add_argument("--rounds", type=int, default=3, help="of that comparison, each side once (default 3)")
    parser.add_argument("--workers", type=int, default=4, help="data-loading processes")
    add_json(parser)
    return parser.parse_args()


if __name__ == "__main__":
    main()
