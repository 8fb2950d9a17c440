"""SLURM jobs of one folder with the scripts they run: submitted, or printed for a dry run.

    queue = Queue(Path("runs/flowers"), config.slurm)
    print(queue.dry_run_text(jobs))
    queue.write_scripts(jobs)
    ids = queue.submit(jobs)

The scripts in slurm/ are complete programs of fixed text. They are copied unchanged to FOLDER/slurm/; what differs
from run to run reaches them as options and arguments of sbatch, called with a list. No value is ever pasted into shell
text, so none is run as shell. Only `slurm.setup`, which *is* shell, is written to a separate file (setup.sh).
"""

import dataclasses
import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from configs.errors import ConfigError, RunError
from configs.run_dir import RunDir, SlurmDir
from configs.slurm import SlurmConfig, SlurmStage
from launch import commands
from launch.commands import SCRIPTS, as_typed, check_printable
from launch.job import Job
from launch.job_summary import summary

# Rejected: templates whose `#SBATCH` lines and command are filled in. One finished script per job is pleasant to read,
# but a job name with a newline then adds lines to it, each value needs its own quoting, and a template with
# placeholders is a script that an admin can neither run nor check with `bash -n`.
PATTERN_CHARACTERS = "%\\"


@dataclass(frozen=True)
class Queue:
    """Jobs whose scripts and logs lie in `root`/slurm, queued as `slurm` says.

    Raises `ConfigError` for a folder name with characters that sbatch replaces in the path of the logs, and for setup
    lines with unprintable characters.
    """

    root: Path
    slurm: SlurmConfig

    def __post_init__(self) -> None:
        """Check the folder's name and the setup lines."""
        text = str(self.root)
        check_printable(text, "run folder")
        for character in PATTERN_CHARACTERS:
            if character in text:
                raise ConfigError(
                    f"run folder {text!r} has a {character!r}, which sbatch replaces; choose another runs_dir"
                )
        for number, line in enumerate(self.slurm.setup):
            check_printable(line, f"slurm.setup[{number}]")

    @property
    def folder(self) -> SlurmDir:
        """Where scripts, configs and logs lie."""
        return SlurmDir(RunDir(self.root).slurm)

    @property
    def setup_text(self) -> str:
        """The text of setup.sh."""
        first = "# slurm.setup of the config; every job script of this run sources this file first"
        return "\n".join([first, *self.slurm.setup]) + "\n"

    def argv(self, job: Job, ids: dict[str, str]) -> list[str]:
        """The sbatch call of `job`; `ids` gives the job ids of the stages submitted before it."""
        argv = [
            "sbatch",
            "--parsable",
            f"--job-name={job.name}",
            f"--output={self.folder.log(job.stage, array=job.tasks > 1 or job.array)}",
        ]
        waits = [":".join([job.after_how, *(ids[stage] for stage in job.after)])] if job.after else []
        if job.stage == "finetune":
            waits.append("singleton")  # two trainings of one run would write into the same folder: the second one waits
        if waits:
            argv += [f"--dependency={','.join(waits)}", "--kill-on-invalid-dep=yes"]
        asked = self.slurm.of_stage(job.asks)
        for option in ("partition", "account", "qos", "constraint"):
            if value := getattr(asked, option):
                argv.append(f"--{option}={value}")
        each = "--ntasks-per-node" if job.asks == "train" else "--ntasks"
        argv += [f"--nodes={job.nodes}", f"{each}={job.ranks_per_node}", *_resources(self.slurm.gpu_option, job, asked)]
        if job.tasks > 1 or job.array:
            argv.append(f"--array=0-{job.tasks - 1}")
        script = [str(self.folder.script(job.script)), str(self.root), *job.script_arguments]
        return commands.checked([*argv, *script, *self.slurm.wrapper, *job.command])

    def dry_run_text(self, jobs: list[Job], scripts: bool = False) -> str:
        """A summary of the jobs, with `scripts` these, and the sbatch commands.

        JOB1, JOB2 ... are placeholders for the ids that sbatch will return.
        """
        parts = [summary(jobs, self.slurm)]
        if scripts:
            parts.append(f"==> {self.folder.setup} <==\n{self.setup_text}")
        for script in dict.fromkeys(script for job in jobs if scripts for script in job.scripts):
            text = SCRIPTS.script(script).read_text(encoding="utf-8")
            parts.append(f"==> {self.folder.script(script)} <==\n{text}")
        ids: dict[str, str] = {}
        lines = ["==> commands <=="]
        for number, job in enumerate(jobs, 1):
            lines += [f"# JOB{number}: {job.stage}", as_typed(self.argv(job, ids))]
            ids[job.stage] = f"JOB{number}"
        return "\n".join([*parts, *lines]) + "\n"

    def write_scripts(self, jobs: list[Job]) -> None:
        """Write scripts and setup into the folder, replacing those of an earlier submission."""
        self.folder.root.mkdir(parents=True, exist_ok=True)
        for script in sorted({script for job in jobs for script in job.scripts}):
            shutil.copyfile(SCRIPTS.script(script), self.folder.script(script))
        self.folder.setup.write_text(self.setup_text, encoding="utf-8")

    def _warn(self, jobs: list[Job]) -> None:
        """Warn if SLURM could not start these jobs (`sbatch --test-only`): sbatch itself accepts jobs that cannot run.

        Only warnings, because SLURM reports the same for nodes that are down or drained for an hour.
        """
        for job in jobs:
            argv = self.argv(dataclasses.replace(job, after=()), {})
            result = subprocess.run([argv[0], "--test-only", *argv[1:]], capture_output=True, text=True, check=False)
            if result.returncode:
                words = " ".join((result.stderr or result.stdout).split())
                print(f"warning: SLURM could not start {job.name} now: {words}", file=sys.stderr)

    def submit(self, jobs: list[Job]) -> None:
        """Call sbatch for each job in order; the ids are printed and saved in `SlurmDir.jobs`.

        Raises `RunError` if sbatch is missing or refuses; jobs already submitted remain and are named in the message.
        """
        if shutil.which("sbatch") is None:
            raise RunError("there is no sbatch on PATH; submit from a login node of the cluster, or use --dry-run")
        self._warn(jobs)
        ids: dict[str, str] = {}
        records = []
        for job in jobs:
            argv = self.argv(job, ids)
            ids[job.stage] = _sbatch(argv, job, ids)
            records.append({"stage": job.stage, "id": ids[job.stage], "sbatch": argv})
            print(f"{ids[job.stage]:>10}  {job.name}", flush=True)
        self.folder.jobs.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")


def _resources(gpu_option: str, job: Job, asked: SlurmStage) -> list[str]:
    """Options for GPUs, time, memory and cores, and further ones as given; their `--gres` joins that of the GPUs."""
    generic = [option.removeprefix("--gres=") for option in asked.options if option.startswith("--gres=")]
    argv = []
    if job.gpus.count and gpu_option == "gres":
        generic.insert(0, f"gpu:{job.gpus}")
    elif job.gpus.count:
        argv.append(f"--gpus-per-node={job.gpus}")
    argv += [f"--gres={','.join(generic)}"] if generic else []
    argv += [f"--time={asked.time}"] if asked.time else []
    argv += [f"--mem={asked.memory}"] if asked.memory else []
    argv.append(f"--cpus-per-task={asked.cpus_per_task}")
    return argv + [option for option in asked.options if not option.startswith("--gres=")]


def _sbatch(argv: list[str], job: Job, earlier: dict[str, str]) -> str:
    result = subprocess.run(argv, capture_output=True, text=True, check=False)
    match = re.fullmatch(r"(\d+)(;.*)?", result.stdout.strip())  # --parsable: id, or id;cluster
    if result.returncode == 0 and match:
        return match[1]
    undo = f"; already submitted: cancel with `scancel {' '.join(earlier.values())}`" if earlier else ""
    said = " ".join((result.stderr or result.stdout).split()) or "nothing"
    raise RunError(f"sbatch refused {job.name} (exit code {result.returncode}), saying: {said}{undo}")
