"""All figures that need no GPU, each with its goal, in one sitting: `python -m eval.benchmarks.cpu --tokenizer DIR`

    python -m eval.benchmarks.cpu --tokenizer DIR --json figures.json      (about 10 minutes on an idle core)
    python -m eval.benchmarks.cpu --only training,order                    (these programs only)

Runs the benchmarks of data preparation, training and evaluation one after the other with one thread each, and prints a
table of figure and goal. Both sides of a ratio are measured in one process, in turns and in CPU seconds, so other
processes disturb it little; the load of the machine is in the output. Exits with 1 if a goal is missed or a program
fails.
"""

from collections.abc import Sequence

from configs.command_line import add_json, command_parser

PROGRAM_NAMES = ("training", "class-scoring", "generation", "pixels", "order", "shards")


def main(argv: Sequence[str] | None = None) -> None:
    """Run and print. Exits with 1 if a goal is missed, with 2 on a mistake in the arguments."""
    parser = command_parser(__doc__)
    parser.add_argument("--tokenizer", help="folder, file or hub id of LLaMA's tokenizer, for class-scoring")
    parser.add_argument("--only", metavar="NAMES", help=f"of {', '.join(PROGRAM_NAMES)}, separated by commas")
    add_json(parser, "the figures")
    arguments = parser.parse_args(argv)
    from eval.benchmarks.cpu_checks import run_and_print  # after parsing: --help needs no torch

    run_and_print(arguments)


if __name__ == "__main__":
    main()
