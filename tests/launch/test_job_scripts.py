"""The job scripts themselves, run by bash with stand-ins for SLURM's programs."""

import os
import signal
import stat
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted((ROOT / "slurm").glob("*.sbatch"))

SRUN = """#!/bin/bash
[[ $1 == --cpus-per-task=3 && $2 == --kill-on-bad-exit=1 && $3 == --wait=0 ]] || exit 99
shift 3
exec "$@"
"""
SCONTROL = """#!/bin/bash
echo "scontrol $*" >> "$CALLS"
[[ $1 == show ]] && printf 'node7\\nnode8\\n'
exit 0
"""
RANK = """#!/bin/bash
# Saves when it gets USR1, as the training does: writes the marker and leaves with 0.
trap 'echo saved; touch "$1/requeue"; exit 0' USR1
echo "rank at $MASTER_ADDR:$MASTER_PORT with $OMP_NUM_THREADS threads, site $SITE, exports ${SLURM_EXPORT_ENV:-all}"
touch "$1/started"
for _ in $(seq 200); do sleep 0.05; done
"""


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """A run folder with a setup file, and srun and scontrol on PATH."""
    (tmp_path / "run/slurm").mkdir(parents=True)
    (tmp_path / "run/slurm/setup.sh").write_text("export SITE=here\n")
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL), ("rank", RANK)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(stat.S_IRWXU)
    return tmp_path


def start(lab: Path, *command: str, restarts: str | None = None) -> "subprocess.Popen[str]":
    environment = os.environ | {
        "PATH": f"{lab}{os.pathsep}{os.environ['PATH']}",
        "CALLS": str(lab / "calls"),
        "SLURM_JOB_ID": "20123",
        "SLURM_JOB_NODELIST": "node[7-8]",
        "SLURM_NTASKS": "2",
        "SLURM_EXPORT_ENV": "NONE",  # as with sbatch --export=NONE
        "SLURM_CPUS_PER_TASK": "3",
    }
    environment.pop("SLURM_RESTART_COUNT", None)
    if restarts is not None:
        environment["SLURM_RESTART_COUNT"] = restarts
    argv = ["bash", str(ROOT / "slurm/finetune.sbatch"), str(lab / "run"), *command]
    return subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def signalled(lab: Path, number: int, restarts: str | None = None) -> tuple[int, str]:
    job = start(lab, str(lab / "rank"), str(lab / "run"), restarts=restarts)
    while not (lab / "run/started").exists() and job.poll() is None:
        time.sleep(0.02)
    job.send_signal(number)
    output, _ = job.communicate(timeout=300)
    return job.returncode, output


def requeued(lab: Path) -> bool:
    return "scontrol requeue 20123\n" in (lab / "calls").read_text()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_bash_can_parse_the_script(script: Path) -> None:
    subprocess.run(["bash", "-n", str(script)], check=True)


def test_there_are_four_scripts_and_none_has_a_placeholder() -> None:
    names = ["data_prep.sbatch", "evaluate.sbatch", "finetune.sbatch", "sweep.sbatch"]
    assert [script.name for script in SCRIPTS] == names
    for script in SCRIPTS:
        text = script.read_text()
        assert '"$@"' in text and "{{" not in text and "eval " not in text


def test_the_exit_code_of_the_training_is_that_of_the_job(lab: Path) -> None:
    for code in (0, 7):
        job = start(lab, "bash", "-c", f"exit {code}")
        job.communicate(timeout=300)
        assert job.returncode == code
    assert not requeued(lab)


def test_the_ranks_meet_at_the_first_node_at_a_port_from_the_job_id(lab: Path) -> None:
    _, output = signalled(lab, signal.SIGUSR1)
    assert "rank at node7:20123 with 3 threads, site here, exports all" in output


def test_after_usr1_the_job_waits_for_the_save_and_is_requeued(lab: Path) -> None:
    code, output = signalled(lab, signal.SIGUSR1)
    assert "saved\n" in output
    assert requeued(lab)
    assert code == 1, "a failed requeue must not let the evaluation start"


def test_after_sigterm_the_job_saves_and_leaves_requeueing_to_slurm(lab: Path) -> None:
    code, output = signalled(lab, signal.SIGTERM)
    assert "saved\n" in output
    assert not requeued(lab)
    assert code == 1


def test_restarts_have_a_limit(lab: Path) -> None:
    code, output = signalled(lab, signal.SIGUSR1, restarts="50")
    assert "already restarted 50 times (limit 50)" in output
    assert not requeued(lab)
    assert code == 1


def test_one_restart_below_the_limit_is_granted(lab: Path) -> None:
    signalled(lab, signal.SIGUSR1, restarts="49")
    assert requeued(lab)


def test_the_marker_of_an_earlier_attempt_means_nothing(lab: Path) -> None:
    (lab / "run/requeue").touch()
    job = start(lab, "true")
    job.communicate(timeout=300)
    assert job.returncode == 0
    assert not requeued(lab)


@pytest.mark.parametrize("script", ["data_prep.sbatch", "evaluate.sbatch"])
def test_an_array_task_names_its_worker_and_a_single_job_does_not(lab: Path, script: str) -> None:
    argv = ["bash", str(ROOT / "slurm" / script), str(lab / "run"), "echo", "a  b", "$(id)"]
    environment = os.environ | {"SLURM_CPUS_PER_TASK": "1"}
    for task, printed in (({"SLURM_ARRAY_TASK_ID": "5"}, "a  b $(id) --worker 5\n"), ({}, "a  b $(id)\n")):
        result = subprocess.run(argv, env=environment | task, capture_output=True, text=True, check=True)
        assert result.stdout == printed


def sweep_task(lab: Path, task: int, script: str) -> "subprocess.CompletedProcess[str]":
    """Task `task` of a sweep of two runs, whose stage prints its arguments."""
    for name in ("run a", "run b"):
        (lab / name / "slurm").mkdir(parents=True, exist_ok=True)
    (lab / "runs.txt").write_text("".join(f"{lab / name}\n" for name in ("run a", "run b")))
    (lab / "run/slurm" / script).write_text(
        'echo "$@"; echo "array ${SLURM_ARRAY_TASK_ID:-none}"; cat "$1/slurm/setup.sh"'
    )
    argv = ["bash", str(ROOT / "slurm/sweep.sbatch"), str(lab / "run"), str(lab / "runs.txt"), script, "run"]
    environment = os.environ | {"SLURM_ARRAY_TASK_ID": str(task)}
    return subprocess.run([*argv, "program", "$(id)"], env=environment, capture_output=True, text=True, check=False)


def test_a_task_of_a_sweep_starts_the_stage_of_its_run_as_a_job_of_its_own(lab: Path) -> None:
    result = sweep_task(lab, 1, "finetune.sbatch")
    run = lab / "run b"
    expected = [
        f"task 1: {run}",
        f"{run} program $(id) --config {run}/slurm/run.yaml",
        "array none",
        "export SITE=here",
    ]
    assert result.stdout.splitlines() == expected


def test_a_task_without_a_run_ends_with_an_error(lab: Path) -> None:
    result = sweep_task(lab, 2, "evaluate.sbatch")
    assert result.returncode == 2 and "has only 2 lines" in result.stderr
