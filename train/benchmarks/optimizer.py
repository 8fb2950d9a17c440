"""One optimizer step, ours and DeepSpeed's: launched operations, waits for the device, seconds.

    python -m train.benchmarks.optimizer [--parameters 448] [--elements 65536] [--device cuda] [--json [FILE]]

bf16 weights with fp32 masters, as LoRA without ZeRO trains them. Both sides get the same gradients in one process, in
turns: DeepSpeed's FP16_UnfusedOptimizer around torch's AdamW with one parameter at a time, and the same with
`train.optimization.fused_update` and the fused AdamW behind its gate, which sums the squares of its update as well.
Operations are PyTorch dispatches; on a CPU these are also what a GPU would launch, or more. Waits are numbers read from
tensors, which on a GPU stop the host until the GPU has finished.
"""

from configs.command_line import add_json, command_parser


def main() -> None:
    """Measure and print."""
    parser = command_parser(__doc__)
    parser.add_argument("--parameters", type=int, default=448, help="LoRA on seven linears of 32 layers")
    parser.add_argument("--elements", type=int, default=65_536, help="of each parameter; 7B, rank 128: about 714,000")
    parser.add_argument("--repeats", type=int, default=5, help="steps that are measured; the median counts")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where the steps run")
    add_json(parser)
    arguments = parser.parse_args()
    from train.benchmarks.optimizer_update import measure_and_print  # after parsing: --help needs no torch

    measure_and_print(arguments)


if __name__ == "__main__":
    main()
