"""All figures of one GPU within a budget of seconds: training, evaluation, and transformers' own, on one random model.

    python -m eval.benchmarks.gpu --budget 300 --json gpu.jsonl          (LLaVA-1.5-7B's shape, bf16, one GPU)
    python -m eval.benchmarks.gpu --rows projector,transformers,lora
    python -m eval.benchmarks.gpu --shape tiny                           (end to end on a CPU, in fp32)

One process makes one model on the device and runs the rows, the most important first. Each result is written as it
comes: a JSON line with `--json`. A row that does not fit into the rest of the budget is left out and says so; one that
fails, also for lack of memory, has its error as its result. The budget does not include imports and the model. What the
figures mean is in `train.benchmarks.gpu_training` and `eval.benchmarks.rates`. MFU is against the operations of a plain
step, without recomputation, and the vendor's dense bf16 rate. Names are ImageNet's, answers have 5 tokens.

For every row: pip install -e '.[turbo,kernels]' on a PyTorch with CUDA and Triton; `flash-attn` is optional.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from configs.command_line import add_json, command_parser
from train.toy.shapes import SHAPES


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print. Exits with code 2 on a mistake in the arguments."""
    parser = command_parser(__doc__)
    parser.add_argument("--shape", choices=tuple(SHAPES), default="llava-1.5-7b", help="default llava-1.5-7b")
    parser.add_argument("--budget", type=float, default=300, help="seconds for all rows (default 300)")
    parser.add_argument("--rows", metavar="NAMES", help="only these, separated by commas (default: all)")
    parser.add_argument("--micro-batch", type=int, default=16, help="of the projector rows (default 16)")
    parser.add_argument("--lora-batch", type=int, default=8, help="micro-batch of LoRA (default 8)")
    parser.add_argument("--workers", type=int, default=4, help="data-loading processes (default 4)")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    add_json(parser, "a line for each result")
    arguments = parser.parse_args(argv)
    from eval.benchmarks.gpu_rows import measure_and_print  # after parsing: --help needs no torch

    measure_and_print(arguments)


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    main()
