"""The command `vlm-classify`: help, dispatch, and how a training is started."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from launch import cli, training
from launch.command_table import COMMANDS, STAGES

ROOT = Path(__file__).resolve().parents[2]


def vlm_classify(*words: str) -> subprocess.CompletedProcess[str]:
    code = "import sys; from launch.cli import main; sys.argv[0] = 'vlm-classify'; main()"
    return subprocess.run([sys.executable, "-c", code, *words], cwd=ROOT, capture_output=True, text=True)


def test_the_script_that_an_installation_makes_is_this_program():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["scripts"] == {"vlm-classify": f"{cli.main.__module__}:{cli.main.__name__}"}


@pytest.mark.parametrize("words", [(), ("--help",), ("-h",)])
def test_the_help_is_a_map_of_all_commands(words, capsys):
    cli.main(words)
    shown = capsys.readouterr().out
    for command in COMMANDS:
        assert f"  {command.name} " in shown
        assert command.about in shown
    assert all(len(line) <= 100 for line in shown.splitlines())


@pytest.mark.parametrize("stage", STAGES)
def test_the_help_of_a_stage_lists_its_commands_only(stage, capsys):
    cli.main([stage, "--help"])
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: vlm-classify {stage} COMMAND")
    listed = {line.split()[1] for line in shown.splitlines() if line.startswith(f"  {stage} ")}
    assert listed == {command.verb for command in COMMANDS if command.stage == stage}


def test_the_help_imports_no_program():
    code = "import sys; from launch.cli import main; main(['--help']); main(['eval']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    modules = set(done.stdout.splitlines()[-1].split())
    assert not modules & {"torch", "numpy", "PIL", "eval.run", "train.finetune", "launch.submit"}


@pytest.mark.slow
def test_help_and_errors_of_a_command_name_what_was_typed():
    shown = vlm_classify("launch", "watch", "--help").stdout
    assert shown.startswith("usage: vlm-classify launch watch ")
    assert "vlm-classify launch watch runs/NAME" in shown
    assert "python -m" not in shown
    refused = vlm_classify("launch", "watch", "runs/x", "--nonsense")
    assert refused.returncode == 2
    assert refused.stderr.splitlines()[-1] == "vlm-classify launch watch: error: unrecognized arguments: --nonsense"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["eval", "rnu"], "vlm-classify has no command `eval rnu`; did you mean `vlm-classify eval run`?"),
        (["watch", "runs/a"], "vlm-classify has no command `watch`; did you mean `vlm-classify launch watch`?"),
        (["xyzzy"], "vlm-classify has no command `xyzzy`; see `vlm-classify --help`"),
    ],
)
def test_an_unknown_command_is_refused_with_those_that_are_near(words, told, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(words)
    assert end.value.code == 2
    assert capsys.readouterr().err == f"error: {told}\n"


@pytest.mark.slow
def test_the_exit_code_of_a_program_is_that_of_the_command(tmp_path):
    done = vlm_classify("launch", "watch", str(tmp_path / "missing"))
    direct = subprocess.run(
        [sys.executable, "-m", "launch.watch", str(tmp_path / "missing")], cwd=ROOT, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (direct.returncode, direct.stdout, direct.stderr)
    assert done.returncode != 0


@pytest.fixture
def started(monkeypatch) -> list[list[str]]:
    """Command lines that would have replaced this process."""
    lines: list[list[str]] = []
    monkeypatch.setattr(training, "find_launcher", lambda: "/bin/deepspeed")
    monkeypatch.setattr(training.os, "execv", lambda path, words: lines.append(words))
    return lines


def test_a_training_is_started_by_the_launcher_with_its_options_first(started, tmp_path):
    finetune = str(ROOT / "train" / "finetune.py")
    config = str(ROOT / "configs" / "demo.yaml")
    rest = ["--config", config, "--resume", "auto", "--set", f"runs_dir={tmp_path}"]
    training.start_ranks([*rest[:2], "--num_gpus", "2", *rest[2:]])
    ((launcher, option, port, *words),) = started
    assert (launcher, option, 0 < int(port) < 65536) == ("/bin/deepspeed", "--master_port", True)
    assert words == ["--quiet", "--num_gpus", "2", finetune, *rest]


@pytest.mark.parametrize(
    "line",
    [
        "deepspeed --quiet --master_port 29501 train/finetune.py --config a.yaml",
        "deepspeed --master_port=29501 train/finetune.py",
        "deepspeed --hostfile hosts train/finetune.py",
        "python -m eval.run --config a.yaml",
    ],
)
def test_a_port_that_is_chosen_and_other_programs_are_left_as_they_are(line):
    assert training.with_free_port(line.split()) == line.split()


@pytest.mark.parametrize("word", ["--dry-run", "--help", "--print-config"])
def test_what_trains_nothing_starts_no_ranks(word, started):
    training.start_ranks(["--config", "a.yaml", word])
    training.start_ranks([])
    assert started == []


@pytest.mark.parametrize(
    ("typed", "passed"),
    [
        ("--num_gpus 2 --config a.yaml --base tiny --dry-run", "--config a.yaml --base tiny --dry-run --world 2"),
        ("--num_gpus=2 --num_nodes=3 --config a.yaml --dry-run", "--config a.yaml --dry-run --world 6"),
        ("--num_gpus 2 --config a.yaml --dry-run --world 8", "--config a.yaml --dry-run --world 8"),
        ("--num_gpus -1 --config a.yaml --dry-run", "--config a.yaml --dry-run"),
        ("--master_port 29501 --include localhost:0 --config a.yaml --print-config", "--config a.yaml --print-config"),
        ("--hostfile hosts --help", "--help"),
    ],
)
def test_a_dry_run_takes_the_launchers_options_and_plans_for_its_ranks(typed, passed):
    assert training.without_launcher(typed.split()) == passed.split()


def test_what_no_rank_could_start_is_said_before_the_launcher_is(started, tmp_path, capsys):
    arguments = ["--config", str(ROOT / "configs" / "demo.yaml"), "--set", f"runs_dir={tmp_path}"]
    (tmp_path / "demo_mix" / "checkpoints" / "step-00000001").mkdir(parents=True)
    for more, words in (
        ([], "already contains a run; continue it with --resume auto"),
        (["--set", "train.epoch=3"], "train.epoch"),
        (["--resume", "auto", "--accept-change", "optim.lr_projectr"], "did you mean optim.lr_projector"),
        (["--resume", "auto", "--accept-change", "train.workers"], "train.workers changes no result"),
    ):
        with pytest.raises(SystemExit, match="2"):
            training.start_ranks([*arguments, *more])
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert error.count("\n") == 1
        assert words in error
    assert started == []


def test_a_run_that_another_process_trains_is_said_before_the_launcher_is(started, tmp_path, capsys):
    run = tmp_path / "demo_mix"
    run.mkdir()
    hold = "import sys, pathlib; from data_prep.run_start import lock_run; from configs.run_dir import RunDir; "
    hold += "lock_run(RunDir(pathlib.Path(sys.argv[1]))); print(flush=True); sys.stdin.read()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    holder = subprocess.Popen([sys.executable, "-c", hold, str(run)], cwd=ROOT, **pipes)
    with holder:
        holder.stdout.readline()
        with pytest.raises(SystemExit, match="2"):
            training.start_ranks(
                ["--config", str(ROOT / "configs/demo.yaml"), "--resume", "auto", "--set", f"runs_dir={tmp_path}"]
            )
        holder.stdin.close()
    assert f"is being trained by process {holder.pid} on" in capsys.readouterr().err
    assert started == []


def test_a_missing_launcher_is_an_error_of_one_line(monkeypatch, capsys):
    monkeypatch.setattr(training.sys, "executable", "/nowhere/python")
    monkeypatch.setattr(training.shutil, "which", lambda name: None)
    with pytest.raises(SystemExit, match="2"):
        training.start_ranks(["--config", "a.yaml"])
    assert capsys.readouterr().err.startswith("error: deepspeed is not installed for this Python")


@pytest.mark.slow
def test_a_dry_run_of_a_training_runs_here():
    done = vlm_classify("train", "--config", "configs/demo.yaml", "--print-config")
    assert done.returncode == 0, done.stderr
    assert "train.epochs" in done.stdout
