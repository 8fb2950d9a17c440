"""A program that the wrong Python starts names the command that activates the right one."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from configs.interpreter import reason_against

ROOT = Path(__file__).resolve().parents[2]


def run_without_packages(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs this Python without any installed package (-S: no site-packages), as the system's Python has none."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, "-S", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize(
    "program",
    [
        ["-m", "eval.run"],
        ["-m", "data_prep.build"],
        ["-m", "launch.submit"],
        ["-m", "train.export"],
        ["train/finetune.py"],
    ],
    ids=" ".join,
)
def test_a_python_without_the_packages_is_told_in_one_line_how_to_activate_the_right_one(program):
    ended = run_without_packages(*program, "--help")
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert f"{sys.executable} has no package omegaconf" in ended.stderr
    assert str(ROOT / ".venv/bin/activate") in ended.stderr


def test_an_import_from_other_code_raises_the_same_text():
    ended = run_without_packages("-c", "import eval")
    assert "ModuleNotFoundError" in ended.stderr
    assert "has no package omegaconf" in ended.stderr


def test_the_advice_depends_on_what_there_is(tmp_path):
    installed = reason_against("/usr/bin/python3", tmp_path, (3, 12), ["omegaconf"])
    assert installed is not None
    assert installed.endswith("/usr/bin/python3 -m pip install vlm-classify")
    (tmp_path / "Makefile").touch()
    assert "make setup && source" in str(reason_against("python3", tmp_path, (3, 12), ["omegaconf"]))
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/activate").touch()
    assert "make setup" not in str(reason_against("python3", tmp_path, (3, 12), ["omegaconf"]))
    assert "needs 3.11" in str(reason_against("python3", tmp_path, (3, 9), []))
    assert reason_against("python3", tmp_path, (3, 11), []) is None


def test_the_python_3_6_of_older_clusters_can_read_the_check_that_names_it():
    source = (ROOT / "configs/interpreter.py").read_text()
    tree = ast.parse(source, feature_version=(3, 6))
    annotations = [
        annotation
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
        for annotation in (node.returns, *(argument.annotation for argument in node.args.args))
    ]
    assert annotations
    assert all(isinstance(each, ast.Name | ast.Constant) for each in annotations), "quote annotations of newer forms"
    assert "annotations" not in [
        name.name for node in tree.body if isinstance(node, ast.ImportFrom) for name in node.names
    ]
