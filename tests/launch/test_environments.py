"""The environments of docs/slurm.md, run as written by the job scripts with stand-ins for the cluster's programs."""

import os
import re
import stat
import subprocess
from pathlib import Path

import pytest
import yaml

from configs.slurm import SlurmConfig
from launch.job import Job
from launch.slurm_problems import slurm_problems
from launch.slurm_queue import Queue

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/slurm.md").read_text().partition("## Environments")[2].partition("\n## ")[0]
EXAMPLES = [yaml.safe_load(text)["slurm"] for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)]
NAMES = ("venv", "conda", "apptainer", "pyxis")
RECORD = """#!/bin/bash
# Writes its name and arguments, one a line, and runs what follows the words that it takes itself.
printf '%s\\n' "$(basename "$0")" "$@" > "$CALLS/$(basename "$0")"
"""
APPTAINER = RECORD + '[[ $* == "exec --nv --bind "* ]] || exit 98\nshift 5\nexec "$@"\n'
SRUN = RECORD + 'while [[ $1 == --* ]]; do shift; done\nexec "$@"\n'
PYTHON = RECORD + 'echo "in $WHERE, $OMP_NUM_THREADS threads"\n'
PROFILE = 'conda() { echo "conda $*" >> "$CALLS/functions"; export WHERE=$2; }\n'
JOBS = {"data_prep": "data_prep", "finetune": "train", "evaluate": "eval"}


@pytest.fixture
def cluster(tmp_path: Path) -> Path:
    """Folders of the examples, programs of a cluster that record their calls."""
    shared = tmp_path / "shared"
    for folder in ("bin", "calls", "shared/vlm/.venv/bin", "shared/conda/etc/profile.d", "run/slurm"):
        (tmp_path / folder).mkdir(parents=True)
    (shared / "vlm/.venv/bin/activate").write_text("export WHERE=venv\n")
    (shared / "conda/etc/profile.d/conda.sh").write_text(PROFILE)
    scontrol = "#!/bin/bash\necho node1\n"
    programs = {"apptainer": APPTAINER, "srun": SRUN, "python": PYTHON, "python3": PYTHON, "scontrol": scontrol}
    for name, text in programs.items():
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(stat.S_IRWXU)
    return tmp_path


def run_job(cluster: Path, settings: dict[str, object], script: str) -> "subprocess.CompletedProcess[str]":
    """Run a job script with what `launch.submit` passes to it."""
    there = yaml.safe_load(yaml.safe_dump(settings).replace("/shared", str(cluster / "shared")))
    slurm = SlurmConfig(**{key: tuple(value) if isinstance(value, list) else value for key, value in there.items()})
    assert list(slurm_problems(slurm)) == []
    queue = Queue(cluster / "run", slurm)
    queue.folder.setup.write_text(queue.setup_text)
    command = (slurm.python or "python", "-m", "program", "a  b", "$(touch pwned)")
    job = Job(run="r", stage="s", script=script, asks=JOBS[script], command=command)
    argv = queue.argv(job, {})
    words = argv[argv.index(str(queue.folder.script(script))) + 1 :]
    variables = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "node1", "SLURM_NTASKS": "1", "SLURM_CPUS_PER_TASK": "3"}
    variables |= {"PATH": f"{cluster / 'bin'}{os.pathsep}{os.environ['PATH']}", "CALLS": str(cluster / "calls")}
    variables |= {"BASH_FUNC_module%%": '() { echo "module $*" >> "$CALLS/functions"\n}', "WHERE": "image"}
    if script != "finetune":
        variables["SLURM_ARRAY_TASK_ID"] = "5"
    return subprocess.run(
        ["bash", str(ROOT / f"slurm/{script}.sbatch"), *words],
        env=os.environ | variables,
        cwd=cluster,
        capture_output=True,
        text=True,
        check=False,
    )


def called(cluster: Path, program: str) -> list[str]:
    return (cluster / "calls" / program).read_text().splitlines()


def test_the_page_has_an_example_of_each_environment() -> None:
    assert len(EXAMPLES) == len(NAMES)


@pytest.mark.slow
@pytest.mark.parametrize("script", JOBS)
@pytest.mark.parametrize(("name", "settings"), list(zip(NAMES, EXAMPLES, strict=True)), ids=NAMES)
def test_every_script_starts_its_command_in_the_environment(
    cluster: Path, name: str, settings: dict[str, object], script: str
) -> None:
    done = run_job(cluster, settings, script)
    assert done.returncode == 0, done.stderr
    where = {"venv": "venv", "conda": "vlm"}.get(name, "image")
    assert f"in {where}, 3 threads\n" in done.stdout
    worker = [] if script == "finetune" else ["--worker", "5"]
    python = str(settings["python"])
    command = [python, "-m", "program", "a  b", "$(touch pwned)", *worker]
    assert called(cluster, python) == command
    assert not (cluster / "pwned").exists()
    if name == "apptainer":
        image = str(cluster / "shared/images/vlm.sif")
        assert called(cluster, "apptainer")[-len(command) - 1 :] == [image, *command]
    if name == "pyxis":
        words = called(cluster, "srun")
        assert words[-len(command) :] == command
        assert words.count("srun") == 1 and f"--container-image={cluster / 'shared/images/vlm.sqsh'}" in words
        assert ("--kill-on-bad-exit=1" in words) is (script == "finetune")
    expected = {"venv": ["module load cuda/12.4 python/3.12"], "conda": ["conda activate vlm"]}
    expected["apptainer"] = ["module load apptainer"]
    if name in expected:
        assert called(cluster, "functions") == expected[name]


def test_a_setup_line_that_fails_ends_the_job_before_its_command(cluster: Path) -> None:
    done = run_job(cluster, {"setup": ["false"], "python": "python"}, "evaluate")
    assert done.returncode == 1
    assert not (cluster / "calls/python").exists()
