"""What is submitted: golden files of whole dry runs, and a fake sbatch that records its arguments."""

import difflib
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from configs.evaluation import EvalConfig
from configs.load import load_config
from configs.run import RunConfig
from launch import submit
from launch.commands import as_typed

GOLDEN = Path(__file__).parent / "golden"
REFRESH = "REFRESH_GOLDEN=1 python -m pytest tests/launch/test_submit.py"
SCRIPTS = sorted((Path(submit.__file__).parents[1] / "slurm").glob("*.sbatch"))
GPUS = ("--config", "configs/run.yaml", "--nodes", "2", "--gpus-per-node", "8")
CPUS = ("--config", "configs/run.yaml", "--nodes", "2", "--gpus-per-node", "0", "--tasks-per-node", "4")
Main = Callable[..., int]
Calls = Callable[[], list[list[str]]]


def compare_with_golden(name: str, text: str) -> None:
    file = GOLDEN / name
    if os.environ.get("REFRESH_GOLDEN"):
        file.write_text(text)
    expected = file.read_text()
    if text != expected:
        changes = difflib.unified_diff(expected.splitlines(), text.splitlines(), str(file), "now", lineterm="")
        raise AssertionError("\n".join([*changes, "", "If this is as it should be, refresh it:", REFRESH]))


@pytest.fixture(autouse=True)
def same_python_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submit.sys, "executable", "python")


@pytest.mark.parametrize(("name", "arguments"), [("dry_run_gpu.txt", (*GPUS, "--verbose")), ("dry_run_cpu.txt", CPUS)])
def test_a_dry_run_prints_the_jobs_and_exact_commands_and_with_verbose_the_scripts(
    project: Path, run_main: Main, capsys: pytest.CaptureFixture[str], name: str, arguments: tuple[str, ...]
) -> None:
    assert run_main(submit.main, *arguments, "--dry-run") == 0
    compare_with_golden(name, capsys.readouterr().out)


def test_a_changed_text_fails_and_says_how_to_refresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REFRESH_GOLDEN", raising=False)
    golden = (GOLDEN / "dry_run_gpu.txt").read_text()
    assert "--gres=gpu:8" in golden and "srun " in golden and len(golden.splitlines()) > 100
    for text in (golden + "one line more\n", golden.replace("gpu:8", "gpu:7"), ""):
        with pytest.raises(AssertionError, match="REFRESH_GOLDEN=1"):
            compare_with_golden("dry_run_gpu.txt", text)


def test_a_dry_run_writes_and_submits_nothing(project: Path, run_main: Main, sbatch: Calls) -> None:
    before = sorted(project.rglob("*"))
    assert run_main(submit.main, *GPUS, "--dry-run") == 0
    assert sorted(project.rglob("*")) == before
    assert sbatch() == []


@pytest.mark.slow
def test_the_submitted_jobs_are_those_of_the_dry_run(
    project: Path, run_main: Main, sbatch: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    run_main(submit.main, *GPUS, "--dry-run")
    announced = capsys.readouterr().out.partition("==> commands <==\n")[2]
    assert run_main(submit.main, *GPUS) == 0
    for number in range(1, 6):
        announced = announced.replace(f"JOB{number}", str(99 + number))
    for call in sbatch():
        assert as_typed(["sbatch", *call]) + "\n" in announced
    assert len(sbatch()) == announced.count("sbatch --parsable") == 5


@pytest.mark.slow
def test_each_job_waits_for_the_ids_that_sbatch_gave(project: Path, run_main: Main, sbatch: Calls) -> None:
    run_main(submit.main, *GPUS)
    waits = [[argument for argument in call if argument.startswith("--dependency")] for call in sbatch()]
    assert waits == [
        [],
        ["--dependency=afterok:100"],
        ["--dependency=afterok:100,singleton"],
        ["--dependency=afterok:102:101"],
        ["--dependency=afterok:103"],
    ]


@pytest.mark.slow
def test_the_scripts_are_copied_unchanged_and_the_jobs_are_kept(project: Path, run_main: Main, sbatch: Calls) -> None:
    run_main(submit.main, *GPUS)
    folder = project / "runs/flowers/slurm"
    assert len(SCRIPTS) == 4
    for script in (script for script in SCRIPTS if script.stem != "sweep"):
        assert (folder / script.name).read_bytes() == script.read_bytes()
    assert [job["id"] for job in json.loads((folder / "jobs.json").read_text())] == ["100", "101", "102", "103", "104"]


@pytest.mark.slow
def test_the_jobs_read_configs_that_later_edits_do_not_reach(project: Path, run_main: Main, sbatch: Calls) -> None:
    run_main(submit.main, *GPUS, "--set", "train.epochs=3")
    expected, _ = load_config(RunConfig, project / "configs/run.yaml", ["train.epochs=3"])
    (project / "configs/run.yaml").unlink()
    folder = project / "runs/flowers/slurm"
    assert load_config(RunConfig, folder / "run.yaml")[0] == expected
    assert load_config(EvalConfig, folder / "eval.open_world.yaml")[0].model == "runs/flowers"
    assert not any("configs/run.yaml" in argument for call in sbatch() for argument in call)


@pytest.mark.slow
def test_setup_lines_reach_the_scripts_as_they_are(project: Path, run_main: Main, sbatch: Calls) -> None:
    run_main(submit.main, *GPUS)
    setup = project / "runs/flowers/slurm/setup.sh"
    assert setup.read_text().splitlines()[1:] == ["module load cuda/12", "export GREETING='hello world'"]


def test_a_refused_job_names_those_already_submitted(
    project: Path, run_main: Main, sbatch: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "fake/refuse-from").write_text("2")
    assert run_main(submit.main, *GPUS) == 2
    message = capsys.readouterr().err
    assert "sbatch refused flowers.finetune (exit code 1), saying: sbatch: error: invalid partition" in message
    assert "`scancel 100 101`" in message


@pytest.mark.slow
def test_what_slurm_could_not_start_is_a_warning_since_nodes_come_back(
    project: Path, run_main: Main, sbatch: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "fake/no-nodes").touch()
    assert run_main(submit.main, *GPUS) == 0
    warning = "warning: SLURM could not start flowers.finetune now: allocation failure: no such nodes\n"
    assert capsys.readouterr().err == warning
    assert len(sbatch()) == 5


def test_without_sbatch_nothing_is_submitted(
    project: Path, run_main: Main, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(project))
    assert run_main(submit.main, *GPUS) == 2
    assert "no sbatch on PATH" in capsys.readouterr().err


def test_problems_stop_a_submission_before_the_queue(
    project: Path, run_main: Main, sbatch: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_main(submit.main, *GPUS, "--set", "train.global_batch=60", "--set", "slurm.time=soon") == 2
    assert capsys.readouterr().err.count("problem: ") == 2
    assert sbatch() == []
    assert not (project / "runs").exists()
    assert run_main(submit.main, *GPUS, "--dry-run", "--set", 'slurm.options=["--comment=a\\nb"]') == 2
    assert capsys.readouterr().err.startswith(
        "problem: slurm.options[0] '--comment=a\\nb' has the unprintable character"
    )


HOSTILE = ["name=a\nb", "name='a b'", 'name="$(touch x)"', "name=`id`", 'name="a\\nb"', "name=-x"]
HOSTILE += ["slurm.setup=['x\x1b']", 'slurm.setup=["a\\nb"]', 'slurm.partition="gpu\\n#SBATCH --comment=x"']
HOSTILE += ['runs_dir="a\\nb"', "runs_dir=a%j", "runs_dir='a\\b'"]


@pytest.mark.slow
@pytest.mark.parametrize("setting", HOSTILE)
def test_hostile_settings_are_refused_before_anything_is_written(
    project: Path, run_main: Main, sbatch: Calls, setting: str
) -> None:
    before = sorted(project.rglob("*"))
    for extra in ((), ("--dry-run",)):
        assert run_main(submit.main, *GPUS, "--set", setting, *extra) == 2
    assert sbatch() == []
    assert sorted(project.rglob("*")) == before


@pytest.mark.slow
def test_shell_in_a_folder_name_is_never_run(project: Path, run_main: Main, sbatch: Calls) -> None:
    assert run_main(submit.main, *GPUS, "--set", "runs_dir='$(touch pwned) `touch pwned`'") == 0
    call = sbatch()[0]
    script, run, *command = call[call.index("python") - 2 :]
    assert run == "$(touch pwned) `touch pwned`/flowers"
    environment = os.environ | {"SLURM_CPUS_PER_TASK": "1", "SLURM_ARRAY_TASK_ID": "3"}
    (project / run / "slurm/setup.sh").write_text("")
    show = ["echo", *command[1:]]
    printed = subprocess.run(
        ["bash", script, run, *show], env=environment, capture_output=True, text=True, check=True
    ).stdout
    rest = "--sources flowers --processes 12 --workers 4 --worker 3"
    assert printed == f"-m data_prep.build --config {run}/slurm/run.yaml {rest}\n"
    assert not list(project.rglob("pwned"))
