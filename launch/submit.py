"""Submits a whole run to SLURM: data_prep array -> fine-tuning -> evaluation arrays -> reports.

    python -m launch.submit --config configs/imagenet_llava_mix.yaml --nodes 2 --gpus-per-node 8 --dry-run

The scripts in slurm/ are complete programs of fixed text. They are copied unchanged to runs/NAME/slurm/; what differs
from run to run reaches them as options and arguments of sbatch, called with a list. No value is ever pasted into shell
text, so none can become shell. Only `slurm.setup`, which *is* shell, gets a file of its own (setup.sh).

The resolved configs are saved beside the scripts and the jobs read those copies: a job may start days from now, when
the original has been edited.
"""

import dataclasses
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from configs.command_line import config_parser, exit_on_user_error
from configs.errors import ConfigError, RunError, UserError
from configs.load import describe, load_config, to_yaml
from configs.schema import EvalConfig, RunConfig
from launch.chain import Job, SlurmDir, plan, sbatch_argv, slurm_dir
from launch.cluster import add_cluster_arguments, cluster_of
from launch.commands import as_typed, check_printable
from launch.preflight import load_evaluation, problems, run_folder

# Rejected: templates whose `#SBATCH` lines and command are filled in. One finished script per job is pleasant to read,
# but a job name with a newline then adds lines to it, each value needs its own quoting, and a template with
# placeholders is a script that an admin can neither run nor check with `bash -n`.
SCRIPTS = SlurmDir(Path(__file__).resolve().parents[1] / "slurm")
PATTERN_CHARACTERS = "%\\"


def setup_text(config: RunConfig) -> str:
    """The text of setup.sh; raises `ConfigError` for a line that holds more than one can see."""
    lines = ["# slurm.setup of the config; every job script of this run sources this file first", *config.slurm.setup]
    for number, line in enumerate(config.slurm.setup):
        check_printable(line, f"slurm.setup[{number}]")
    return "\n".join(lines) + "\n"


def check_folder(config: RunConfig) -> None:
    """Raise `ConfigError` for a run folder that sbatch would not take literally as the place of its logs."""
    text = str(run_folder(config).root)
    check_printable(text, "run folder")
    for character in PATTERN_CHARACTERS:
        if character in text:
            raise ConfigError(
                f"run folder {text!r} has a {character!r}, which sbatch replaces; choose another runs_dir"
            )


def write_files(config: RunConfig, evaluations: list[EvalConfig], jobs: list[Job]) -> None:
    """Put scripts, setup and configs into runs/NAME/slurm, replacing those of an earlier submission."""
    folder = slurm_dir(config)
    folder.root.mkdir(parents=True, exist_ok=True)
    for script in sorted({job.script for job in jobs}):
        shutil.copyfile(SCRIPTS.script(script), folder.script(script))
    folder.setup.write_text(setup_text(config), encoding="utf-8")
    folder.config("run").write_text(to_yaml(config), encoding="utf-8")
    for evaluation in evaluations:
        folder.config(f"eval.{evaluation.name}").write_text(to_yaml(evaluation), encoding="utf-8")


def submit(config: RunConfig, jobs: list[Job]) -> dict[str, str]:
    """Call sbatch for each job in order and return `{stage: job id}`, which is also kept in jobs.json.

    Raises `RunError` if sbatch is missing or refuses; jobs submitted before that stay and are named in the message.
    """
    if shutil.which("sbatch") is None:
        raise RunError("there is no sbatch on PATH; submit from a login node of the cluster, or use --dry-run")
    ids: dict[str, str] = {}
    records = []
    for job in jobs:
        argv = sbatch_argv(job, config, ids)
        ids[job.stage] = _sbatch(argv, job, ids)
        records.append({"stage": job.stage, "id": ids[job.stage], "sbatch": argv})
        print(f"{ids[job.stage]:>10}  {job.name}", flush=True)
    file = slurm_dir(config).jobs
    file.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")
    return ids


def warnings(config: RunConfig, jobs: list[Job]) -> list[str]:
    """What SLURM itself says against starting these jobs (`sbatch --test-only`): it accepts jobs that no node can run.

    No more than warnings, because it says the same of nodes that are down or drained for an hour.
    """
    if shutil.which("sbatch") is None:
        return []
    said = []
    for job in jobs:
        argv = sbatch_argv(dataclasses.replace(job, after=()), config, {})
        result = subprocess.run([argv[0], "--test-only", *argv[1:]], capture_output=True, text=True, check=False)
        if result.returncode:
            said.append(f"SLURM could not start {job.name} now: {' '.join((result.stderr or result.stdout).split())}")
    return said


def _sbatch(argv: list[str], job: Job, earlier: dict[str, str]) -> str:
    result = subprocess.run(argv, capture_output=True, text=True, check=False)
    match = re.fullmatch(r"(\d+)(;.*)?", result.stdout.strip())  # --parsable: id, or id;cluster
    if result.returncode == 0 and match:
        return match[1]
    undo = f"; already submitted: take back with `scancel {' '.join(earlier.values())}`" if earlier else ""
    said = " ".join((result.stderr or result.stdout).split()) or "nothing"
    raise RunError(f"sbatch refused {job.name} (exit code {result.returncode}), saying: {said}{undo}")


def dry_run_text(config: RunConfig, jobs: list[Job]) -> str:
    """The scripts and the sbatch commands; JOB1, JOB2 ... stand for the ids that sbatch will give."""
    folder = slurm_dir(config)
    parts = [f"==> {folder.setup} <==\n{setup_text(config)}"]
    for script in dict.fromkeys(job.script for job in jobs):
        parts.append(f"==> {folder.script(script)} <==\n{SCRIPTS.script(script).read_text(encoding='utf-8')}")
    ids: dict[str, str] = {}
    lines = ["==> commands <=="]
    for number, job in enumerate(jobs, 1):
        lines += [f"# JOB{number}: {job.stage}", as_typed(sbatch_argv(job, config, ids))]
        ids[job.stage] = f"JOB{number}"
    return "\n".join([*parts, *lines]) + "\n"


def main() -> None:
    """Check, then print (--dry-run) or submit the chain."""
    parser = config_parser(__doc__, RunConfig)
    add_cluster_arguments(parser)
    parser.add_argument("--dry-run", action="store_true", help="print scripts and commands, submit nothing")
    arguments = parser.parse_args()
    try:
        config, origins = load_config(RunConfig, arguments.config, arguments.overrides)
        if arguments.print_config:
            print(describe(config, origins))
            return
        cluster = cluster_of(arguments)
        check_folder(config)
        found = problems(config, cluster, arguments.start)
        if found and not arguments.dry_run:
            _refuse(found)
        evaluations = [load_evaluation(path, config) for path in config.evaluate]
        jobs = plan(config, evaluations, cluster, arguments.start, sys.executable)
        if arguments.dry_run:
            print(dry_run_text(config, jobs), end="", flush=True)
            _refuse(found)
            return
        write_files(config, evaluations, jobs)
        for text in warnings(config, jobs):
            print(f"warning: {text}", file=sys.stderr)
        submit(config, jobs)
        print(f"watch it: {shlex.join(['python', '-m', 'launch.watch', str(run_folder(config).root), '--follow'])}")
    except UserError as error:
        exit_on_user_error(error)


def _refuse(found: list[str]) -> None:
    """Print the problems and exit with code 2, if there are any."""
    if found:
        print("\n".join(f"problem: {text}" for text in found), file=sys.stderr)
        raise SystemExit(2)


if __name__ == "__main__":
    main()
