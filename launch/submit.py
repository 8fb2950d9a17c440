"""Submits a complete run to SLURM: data_prep array -> fine-tuning -> evaluation arrays -> reports.

    python -m launch.submit --config configs/imagenet_llava_mix.yaml --nodes 2 --gpus-per-node 8 --dry-run

The scripts in slurm/ are copied unchanged (`launch.slurm_queue` lists their inputs). The resolved configs are saved
in the same folder and the jobs read those copies: the original may be edited before a job starts.
"""

import shlex
import sys
from pathlib import Path

from configs.command_line import add_base_model, add_dry_run, config_of, config_parser, exit_on_user_error
from configs.errors import ConfigError, UserError
from configs.run import RunConfig
from configs.trained import load_evaluation_of
from launch.chain import plan, write_configs
from launch.cluster import add_cluster_arguments, add_verbose, cluster_of
from launch.preflight import exit_with_problems, problems, run_folder
from launch.slurm_queue import Queue


def main() -> None:
    """Check, then print (--dry-run) or submit the chain."""
    parser = config_parser(__doc__, RunConfig)
    add_base_model(parser)
    add_cluster_arguments(parser)
    add_dry_run(parser, "jobs and commands")
    add_verbose(parser)
    arguments = parser.parse_args()
    try:
        config = config_of(arguments, RunConfig)
        cluster = cluster_of(arguments, config.slurm)
        queue = Queue(run_folder(config).root, config.slurm)
        found = problems(config, cluster, arguments.start)
        if not arguments.dry_run:
            exit_with_problems(found)
        loaded = [load_evaluation_of(Path(path), config) for path in config.evaluate]
        for note in (note for _, notes in loaded for note in notes):
            print(note, file=sys.stderr)
        evaluations = [evaluation for evaluation, _ in loaded]
        try:
            jobs = plan(config, evaluations, cluster, arguments.start, config.slurm.python or sys.executable)
            text = queue.dry_run_text(jobs, arguments.verbose) if arguments.dry_run else ""
        except ConfigError:  # of a value that a problem names with its setting
            exit_with_problems(found)
            raise
        if arguments.dry_run:
            print(text, end="", flush=True)
            exit_with_problems(found)
            return
        queue.write_scripts(jobs)
        write_configs(config, evaluations)
        queue.submit(jobs)
        print(f"watch it: {shlex.join(['python', '-m', 'launch.watch', str(run_folder(config).root), '--follow'])}")
    except UserError as error:
        exit_on_user_error(error)


if __name__ == "__main__":
    main()
