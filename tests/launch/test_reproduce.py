"""The paper's experiments as jobs: an array that asks, a job that finishes, behind a real dry run of eval.reproduce."""

from collections.abc import Callable
from pathlib import Path

import pytest

from configs.errors import ConfigError
from launch import reproduce

ROOT = Path(reproduce.__file__).parents[1]
ASKED = ("--model", "org/llava", "--protocol", "official", "--datasets", "demo")
Main = Callable[..., int]
Calls = Callable[[], list[list[str]]]


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def submit(run_main: Main, *asked: str, ours: tuple[str, ...] = ()) -> int:
    return run_main(reproduce.main, "--config", "configs/run.yaml", *ours, "--", *asked)


@pytest.mark.slow
def test_an_array_asks_and_a_job_behind_it_finishes(project: Path, run_main: Main, sbatch: Calls) -> None:
    assert submit(run_main, *ASKED) == 0
    ask, finish = sbatch()
    folder = "runs/reproduce/org-llava.official"
    assert "--array=0-1" in ask
    assert {"--partition=gpu", "--account=lab-7", "--cpus-per-task=12", "--gres=gpu:1"} < set(ask) & set(finish)
    assert ask[ask.index("eval.reproduce") + 1 :] == [*ASKED, "--workers", "2"]
    assert finish[finish.index("eval.reproduce") + 1 :] == [*ASKED, "--report-only"]
    assert "--dependency=afterok:100" in finish
    assert folder in ask and (project / folder / "slurm/evaluate.sbatch").is_file()
    assert "module load cuda/12" in (project / folder / "slurm/setup.sh").read_text()


@pytest.mark.slow
def test_a_single_task_asks_and_finishes_and_a_cluster_without_gpus_is_asked_for_none(
    project: Path, run_main: Main, sbatch: Calls
) -> None:
    assert submit(run_main, *ASKED, ours=("--set", "slurm.eval_tasks=1", "--gpus-per-task", "0")) == 0
    (only,) = sbatch()
    assert only[only.index("eval.reproduce") + 1 :] == list(ASKED)
    assert not any(argument.startswith(("--gres", "--array")) for argument in only)


@pytest.mark.slow
def test_a_dry_run_shows_rows_and_commands_and_writes_nothing(
    project: Path, run_main: Main, sbatch: Calls, capfd: pytest.CaptureFixture[str]
) -> None:
    before = sorted(project.rglob("*"))
    assert submit(run_main, *ASKED, ours=("--dry-run",)) == 0
    shown = capfd.readouterr().out
    assert "candidates_20" in shown and "sbatch --parsable --job-name=reproduce.org-llava.official.evaluate" in shown
    assert sbatch() == [] and sorted(project.rglob("*")) == before


@pytest.mark.slow
def test_what_the_rows_refuse_is_not_submitted(
    project: Path, run_main: Main, sbatch: Calls, capfd: pytest.CaptureFixture[str]
) -> None:
    assert submit(run_main, "--model", "org/llava", "--datasets", "nothing") == 2
    assert "no data set 'nothing'" in capfd.readouterr().err
    assert sbatch() == []


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ((), "no --model"),
        ((*ASKED, "--worker", "1"), "--worker after"),
        ((*ASKED, "--workers=3"), "--workers=3 after"),
        ((*ASKED, "--dry-run"), "put it before `--`"),
    ],
)
def test_arguments_that_are_missing_or_not_ones_own_are_named(
    project: Path, run_main: Main, sbatch: Calls, capfd: pytest.CaptureFixture[str], asked: tuple[str, ...], said: str
) -> None:
    assert submit(run_main, *asked) == 2
    assert said in capfd.readouterr().err
    assert sbatch() == []


@pytest.mark.parametrize(("model", "named"), [("../a b/$(touch x)", "a-b-touch-x-"), ("--model", "model")])
def test_a_job_has_a_name_for_every_model_name(model: str, named: str) -> None:
    jobs = reproduce.plan((f"--model={model}",), 2, 0, "python")
    assert [job.name for job in jobs] == [f"reproduce.{named}.paper.{stage}" for stage in ("evaluate", "finish")]


def test_a_name_too_long_for_a_job_is_refused() -> None:
    with pytest.raises(ConfigError, match="job name is"):
        reproduce.plan(("--model", "a" * 300), 2, 0, "python")
