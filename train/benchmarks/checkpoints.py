"""Cost of a checkpoint, ours and DeepSpeed's: seconds that training is paused, seconds until it is on disk, bytes.

    python -m train.benchmarks.checkpoints [--shape small] [--rank 128] [--zero-stage 2] [--json [FILE]]

One process, one engine, the same state: LoRA and projector on a frozen base of random weights. Both are measured in
turns. DeepSpeed's `save_checkpoint` returns without fsync; the column "safe" adds the fsync, because ours survives a
power cut and theirs must too to be comparable.
"""

from configs.command_line import add_json, command_parser
from train.toy.shapes import SHAPES


def main() -> None:
    """Measure in a temporary folder and print."""
    parser = command_parser(__doc__)
    parser.add_argument("--shape", choices=tuple(SHAPES), default="small", help="of the random base (default small)")
    parser.add_argument("--rank", type=int, default=128, help="rank of the LoRA")
    parser.add_argument("--zero-stage", type=int, choices=(0, 1, 2, 3), default=2, help="(default 2)")
    parser.add_argument("--repeats", type=int, default=5, help="measured rounds, after one to warm up")
    parser.add_argument("--folder", help="where to write (default: the system's temporary folder)")
    add_json(parser)
    arguments = parser.parse_args()
    from train.benchmarks.checkpoint_times import measure_and_print  # after parsing: --help needs no torch

    measure_and_print(arguments)


if __name__ == "__main__":
    main()
