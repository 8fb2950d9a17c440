"""The README's commands exist: their files, their modules, their options."""

import ast
import json
import re
import shlex
import subprocess
import sys
import types
from pathlib import Path

import pytest
from PIL import Image

from data_prep import build
from data_prep.registry import READERS
from data_prep.shards import ShardSet

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


def entry_of(words: list[str]) -> tuple[str, list[str]]:
    """(module or file that a command starts, its arguments)."""
    if words[0] == "deepspeed":
        return "train/finetune.py", words[words.index("train/finetune.py") + 1 :]
    return (words[2], words[3:]) if words[1] == "-m" else (words[1], words[2:])


HELPS = """
import contextlib, io, json, runpy, sys
texts = {}
for entry in sys.argv[1:]:
    sys.argv = [entry, "--help"]
    run = runpy.run_path if entry.endswith(".py") else runpy.run_module
    with contextlib.redirect_stdout(io.StringIO()) as text, contextlib.suppress(SystemExit):
        run(entry, run_name="__main__")
    texts[entry] = text.getvalue()
print(json.dumps(texts))
"""


@pytest.fixture(scope="module")
def helps() -> dict[str, str]:
    """What `--help` prints, by entry; asked in one process, since most of the time is spent on importing torch."""
    entries = sorted({entry_of(shlex.split(command))[0] for command in commands()})
    done = subprocess.run([sys.executable, "-c", HELPS, *entries], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    texts: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return texts


def test_there_are_commands_to_check():
    assert len(commands()) >= 10


@pytest.mark.parametrize("command", commands())
def test_a_command_of_the_readme_exists_with_its_options_and_files(command, helps):
    entry, rest = entry_of(shlex.split(command))
    assert helps[entry].startswith("usage: ")
    for word in rest:
        if word.startswith("--"):
            assert re.search(rf"{word.split('=')[0]}\b", helps[entry]), f"{entry} knows no {word}"
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


def test_the_reader_that_the_readme_shows_builds_a_shard_set(tmp_path, monkeypatch):
    (code, line) = re.findall(r"```python\n((?:from|    \"my_format).*?)```", README, re.DOTALL)
    monkeypatch.setitem(READERS, *ast.literal_eval(f"{{{line}}}").popitem())
    module = types.ModuleType("data_prep.readers.my_format")
    exec(compile(code, "README.md", "exec"), module.__dict__)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    (tmp_path / "raw").mkdir()
    Image.new("RGB", (8, 8), "red").save(tmp_path / "raw" / "tom.jpg")
    source = {"sources": {"cats": {"reader": "my_format", "path": str(tmp_path / "raw")}}, "shards": str(tmp_path)}
    run = {"name": "x", "model": {"base": "none"}, "train": {"sources": ["cats"]}, "data": source}
    (tmp_path / "run.yaml").write_text(json.dumps(run))
    build.main(["--config", str(tmp_path / "run.yaml")])
    assert ShardSet.open(tmp_path / "cats").sample(0).turns[1].text == "cat"
