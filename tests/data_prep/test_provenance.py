"""Every start of a program is recorded: command, code, packages, machine, times."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from data_prep import provenance
from data_prep.provenance import FINISHED, ROOT, StartLog, command_line, describe_process, read_starts


def test_each_start_is_appended_and_ends_with_its_outcome(tmp_path):
    file = tmp_path / "new" / "provenance.json"
    with StartLog(file).recorded(world_size=2):
        assert read_starts(file)[0]["end"] is None, "readable while it runs"
    with pytest.raises(KeyError), StartLog(file).recorded():
        raise KeyError("lost\nmore")
    first, second = read_starts(file)
    assert first["world_size"] == 2
    assert first["outcome"] == FINISHED
    assert first["start"] <= first["end"]
    assert second["outcome"] == "KeyError: 'lost\\nmore'"


def test_a_killed_process_leaves_a_start_without_an_end(tmp_path):
    file = tmp_path / "provenance.json"
    begin = f"StartLog(pathlib.Path({str(file)!r})).begin()"
    code = f"import os, pathlib; from data_prep.provenance import StartLog; {begin}; os._exit(9)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 9
    StartLog(file).begin()
    killed, running = read_starts(file)
    assert killed["outcome"] is None
    assert running["outcome"] is None


@pytest.mark.parametrize("content", ["", "{", "[1, 2]", '{"a": 1}', "\x00"])
def test_a_damaged_record_never_stops_a_program(tmp_path, content):
    file = tmp_path / "provenance.json"
    file.write_text(content)
    assert read_starts(file) == []
    StartLog(file).begin()
    assert len(json.loads(file.read_text())) == 1


def test_the_process_is_described_by_code_packages_and_machine():
    about = describe_process()
    assert about["packages"]["torch"]
    assert about["packages"]["transformers"]
    assert about["python"] == sys.version.split()[0]
    assert about["host"]
    assert about["cpus"] >= 1
    assert about["command"]


def test_the_commit_and_uncommitted_changes_are_found(tmp_path, monkeypatch):
    def git(*arguments: str) -> None:
        identity = ("-c", "user.name=a", "-c", "user.email=a@b.c")
        subprocess.run(["git", "-C", str(tmp_path), *identity, *arguments], check=True, capture_output=True)

    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    provenance.code_version.cache_clear()
    assert provenance.code_version() is None, "an installed copy has no repository"
    git("init")
    (tmp_path / "a.py").write_text("1")
    git("add", "a.py")
    git("commit", "-m", "first")
    provenance.code_version.cache_clear()
    version = provenance.code_version()
    assert version is not None
    assert len(version["commit"]) == 40
    assert version["clean"] is True
    (tmp_path / "result.txt").write_text("an untracked file is no change of the code")
    provenance.code_version.cache_clear()
    assert provenance.code_version() == version
    (tmp_path / "a.py").write_text("2")
    provenance.code_version.cache_clear()
    assert provenance.code_version() == version | {"clean": False}
    provenance.code_version.cache_clear()


def test_the_command_can_be_typed_again():
    assert command_line([str(ROOT / "eval/run.py"), "--set", "name=a b"]) == "python -m eval.run --set 'name=a b'"
    assert (
        command_line(["train/finetune.py", "--local_rank=0", "--config", "x.yaml"])
        == "python train/finetune.py --config x.yaml"
    )
    assert command_line(["/usr/bin/vlm-classify", "eval", "run"]) == "vlm-classify eval run"
    assert command_line([str(Path("/elsewhere/mine.py"))]) == "python /elsewhere/mine.py"
