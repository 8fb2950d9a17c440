"""A run as a SLURM job on a cluster of two virtual nodes, one rank on each: what ends it, and that nothing is lost."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from configs.run_dir import RunDir
from train.checkpoints.reading import newest_checkpoint

ROOT = Path(__file__).resolve().parents[3]
CLUSTER = Path(__file__).with_name("slurm_cluster.sh")
STEPS = 600
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("slurmctld") is None or os.geteuid() != 0, reason="needs slurmctld, slurmd and root"
    ),
]


@dataclass
class Cluster:
    """The cluster and a maker of jobs on it."""

    folder: Path
    training_setup: Any
    until: Callable[..., None]

    def up(self) -> None:
        port = 20_000 + os.getpid() % 10_000  # no other cluster's daemons shall report to this one
        environment = {**os.environ, "SLURM_TEST_PORT": str(port)}
        subprocess.run(["bash", str(CLUSTER), "up", str(self.folder)], check=True, timeout=60, env=environment)

    def slurm(self, *words: str) -> str:
        environment = {**os.environ, "SLURM_CONF": str(self.folder / "slurm.conf")}
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=300, cwd=ROOT)
        assert done.returncode == 0, f"{words}: {done.stderr}"
        return done.stdout

    def submit(self, name: str, script: Path | None = None) -> "Job":
        run = RunDir(self.training_setup.root / "runs" / name)
        run.slurm.mkdir(parents=True, exist_ok=True)
        (run.slurm / "setup.sh").write_text("export DS_ACCELERATOR=cpu\n")
        options = ["--parsable", "--nodes=2", "--ntasks-per-node=1", "--cpus-per-task=1", f"--job-name={name}"]
        options += [f"--output={run.slurm}/log.out", f"--chdir={ROOT}"]
        settings = {"train.max_steps": STEPS, "train.epochs": 10_000, "train.heldout_every": 0, "checkpoint.every": 50}
        settings |= {"checkpoint.export": "false", "train.workers": 1}
        words = [
            sys.executable,
            "train/finetune.py",
            "--config",
            str(self.training_setup.config_file(name)),
            "--resume",
            "auto",
        ]
        words += [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
        number = self.slurm("sbatch", *options, str(script or ROOT / "slurm/finetune.sbatch"), str(run.root), *words)
        return Job(self, number.strip(), run)


@dataclass
class Job:
    """A submitted job."""

    cluster: Cluster
    number: str
    run: RunDir

    def state(self) -> str:
        text = self.cluster.slurm("scontrol", "show", "job", self.number)
        return re.search(r"JobState=(\w+)", text)[1]

    def log(self) -> str:
        file = self.run.slurm / "log.out"
        return file.read_text(errors="replace") if file.exists() else ""

    def step(self) -> int:
        if not self.run.metrics.exists():
            return 0
        return max(map(int, re.findall(r'"step": (\d+)', self.run.metrics.read_text())), default=0)

    def wait_for_step(self, step: int) -> None:
        self.cluster.until(lambda: self.step() >= step, f"step {step}; {self.state()}\n{self.log()[-3000:]}")

    def wait_for(self, *states: str) -> None:
        self.cluster.until(lambda: self.state() in states, f"{states}\n{self.log()[-3000:]}")

    def start_now(self, attempt: int = 1) -> None:
        """Wait for restart `attempt`; by itself a requeued job would wait for two minutes."""

        asked = [0.0]

        def started() -> bool:
            if f"restart {attempt}:" in self.log():
                return True
            if self.state() == "PENDING" and time.monotonic() - asked[-1] > 20:
                asked.append(time.monotonic())  # not at once: what a node knows of the first attempt ends with it
                self.cluster.slurm("scontrol", "update", f"JobId={self.number}", "StartTime=now+5")
            return False

        self.cluster.until(started, f"restart {attempt}; {self.state()}\n{self.log()[-2000:]}")

    def hexes(self) -> list[tuple[str, str]]:
        return re.findall(r'"step": (\d+).*?"loss": ([^,]+), "grad_norm": ([^,]+)', self.run.metrics.read_text())


@pytest.fixture(scope="module")
def cluster(training_setup, until, tmp_path_factory) -> Iterator[Cluster]:
    made = Cluster(tmp_path_factory.mktemp("slurm"), training_setup, until)
    made.up()
    yield made
    subprocess.run(["bash", str(CLUSTER), "down", str(made.folder)], check=False)


@pytest.fixture(scope="module")
def whole(cluster) -> Job:
    """A job that nothing happened to."""
    job = cluster.submit("slurm-whole")
    job.wait_for("COMPLETED", "FAILED")
    assert job.state() == "COMPLETED", job.log()[-3000:]
    assert len(job.hexes()) == STEPS, job.log()[-3000:]
    return job


def check_equal(job: Job, whole: Job) -> None:
    """The same losses and the same weights as a run that was not interrupted."""
    job.wait_for("COMPLETED", "FAILED")
    assert job.state() == "COMPLETED", job.log()[-3000:]
    assert job.hexes() == whole.hexes()
    assert len(job.hexes()) == STEPS
    files = [(one.run.checkpoint(STEPS) / "weights.safetensors").read_bytes() for one in (job, whole)]
    assert files[0] == files[1]
    assert not job.run.requeue.exists()


@pytest.mark.fault(20, "USR1 as before the time limit, on 2 nodes", "saved, requeued, resumed, same weights", long=True)
def test_before_the_time_limit_a_job_saves_requeues_itself_and_resumes(cluster, whole, seen):
    job = cluster.submit("slurm-limit")
    stopped = []
    for attempt, step in enumerate((60, 300), 1):
        job.wait_for_step(step)
        cluster.slurm("scancel", "--signal=USR1", "--batch", job.number)
        cluster.until(lambda attempt=attempt: job.log().count("requeueing job") == attempt, job.log()[-2000:])
        stopped.append(newest_checkpoint(job.run)[0].step)
        job.start_now(attempt)
    check_equal(job, whole)
    seen(f"saved at {stopped}, requeued twice, COMPLETED; weights and losses bit-equal")


@pytest.mark.fault(
    21, "node n2 dies: slurmd, its steps and the rank, kill -9", "requeued by SLURM, same weights", long=True
)
def test_a_job_on_a_node_that_dies_is_requeued_and_resumes(cluster, whole, seen):
    job = cluster.submit("slurm-node")
    job.wait_for_step(70)
    for pid in processes_of_node(cluster, "n2", job):
        os.kill(pid, signal.SIGKILL)
    job.wait_for("PENDING", "FAILED")
    assert job.state() == "PENDING", f"{job.state()}\n{job.log()[-2000:]}"
    environment = {**os.environ, "SLURM_CONF": str(cluster.folder / "slurm.conf")}
    subprocess.run(["slurmd", "-N", "n2"], env=environment, check=True)
    job.start_now()
    check_equal(job, whole)
    named = [line for line in job.log().splitlines() if "error: rank 0, after step" in line]
    seen(f"rank 0: {named[0][7:90] if named else 'killed with the job'}...; requeued; bit-equal")


def processes_of_node(cluster: Cluster, node: str, job: Job) -> list[int]:
    """The node's slurmd, the daemon of the job's step and what runs below it, in an order in which none reports."""
    tasks, daemons = [], [int((cluster.folder / f"slurmd-{node}.pid").read_text())]
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "environ").read_bytes().split(b"\0")
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                above = Path(f"/proc/{parent}/cmdline").read_bytes()
            except OSError:
                continue
            if f"SLURM_JOB_ID={job.number}".encode() in words and f"SLURMD_NODENAME={node}".encode() in words:
                tasks.append(int(entry.name))
                if above.startswith(b"slurmstepd"):
                    daemons.append(parent)
    assert len(daemons) > 1, "the step's daemon was found"
    return [*daemons, *tasks]


@pytest.mark.fault(22, "scontrol requeue by somebody else", "saved within KillWait, resumed, same weights", long=True)
def test_an_external_requeue_saves_and_resumes(cluster, whole, seen):
    job = cluster.submit("slurm-requeue")
    job.wait_for_step(70)
    cluster.slurm("scontrol", "requeue", job.number)
    job.wait_for("PENDING")
    step = newest_checkpoint(job.run)[0].step
    job.start_now()
    check_equal(job, whole)
    seen(f"saved at step {step}, requeued by SLURM, COMPLETED; weights and losses bit-equal")


@pytest.mark.fault(23, "scancel", "saved, not requeued; submitted again it goes on", long=True)
def test_a_cancelled_job_saves_is_over_and_can_be_submitted_again(cluster, whole, seen):
    job = cluster.submit("slurm-cancel")
    job.wait_for_step(70)
    cluster.slurm("scancel", job.number)
    job.wait_for("CANCELLED")
    cluster.until(lambda: "everything is saved" in job.log(), job.log()[-2000:])
    step = newest_checkpoint(job.run)[0].step
    assert job.state() == "CANCELLED"
    again = cluster.submit("slurm-cancel")
    check_equal(again, whole)
    seen(f"saved at step {step}, CANCELLED, not requeued; submitted again: bit-equal")


@pytest.mark.fault(24, "the requeue limit is reached", "saved, job FAILED with the reason, resumable", long=True)
def test_at_the_requeue_limit_the_job_ends_and_says_so(cluster, whole, seen, tmp_path):
    script = tmp_path / "finetune.sbatch"
    script.write_text((ROOT / "slurm/finetune.sbatch").read_text().replace("MAX_RESTARTS=50", "MAX_RESTARTS=0"))
    job = cluster.submit("slurm-often", script)
    job.wait_for_step(70)
    cluster.slurm("scancel", "--signal=USR1", "--batch", job.number)
    job.wait_for("FAILED")
    assert "already restarted 0 times (limit 0)" in job.log()
    again = cluster.submit("slurm-often")
    check_equal(again, whole)
    seen("saved, FAILED and said why; submitted again: bit-equal")
