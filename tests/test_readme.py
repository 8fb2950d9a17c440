"""The README's commands exist: their files, their modules, their options."""

import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def commands() -> list[str]:
    """Every command line in a console block or in backticks that starts one of our stages."""
    lines = [line for block in re.findall(r"```console\n(.*?)```", README, re.DOTALL) for line in block.splitlines()]
    lines += re.findall(r"`((?:python|deepspeed) [^`]+)`", README)
    lines = [line.split("   #")[0].removeprefix("$ ").strip() for line in lines]
    return sorted(
        {line for line in lines if re.match(r"(python -m (data_prep|train|eval|launch)|deepspeed|python train)", line)}
    )


@cache
def help_of(*entry: str) -> str:
    done = subprocess.run([sys.executable, *entry, "--help"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_there_are_commands_to_check():
    assert len(commands()) >= 10


@pytest.mark.parametrize("command", commands())
def test_a_command_of_the_readme_exists_with_its_options_and_files(command):
    words = shlex.split(command)
    if words[0] == "deepspeed":
        entry, rest = ["train/finetune.py"], words[words.index("train/finetune.py") + 1 :]
    elif words[1] == "-m":
        entry, rest = ["-m", words[2]], words[3:]
    else:
        entry, rest = [words[1]], words[2:]
    text = help_of(*entry)
    for word in rest:
        if word.startswith("--"):
            assert word.split("=")[0] in text, f"{entry} knows no {word}"
        if word.startswith("configs/"):
            assert (ROOT / word).is_file(), word


def test_make_targets_of_the_readme_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"(?:^|`)make (\w+)", README, re.MULTILINE))  # and not: signals make all ranks save
    assert {"setup", "demo", "test"} <= targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_links_to_files_resolve():
    for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / link).exists(), link
