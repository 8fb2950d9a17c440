"""A small project folder with configs, raw data and a base model, and a fake sbatch that records its arguments."""

import json
import os
import stat
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from configs.load import load_config
from configs.run import RunConfig
from data_prep.manifest import FORMAT_VERSION, Manifest

PYTHON = sys.executable  # kept: tests replace sys.executable

RUN_YAML = """
name: flowers
data: {shards: shards, sources: {flowers: {reader: image_folder, path: raw/flowers}}}
model: {base: llava-hf/llava-1.5-7b-hf, mode: projector}
train: {sources: [flowers], global_batch: 64}
slurm: {partition: gpu, account: lab-7, cpus_per_task: 12, memory: 200G, prep_tasks: 4, eval_tasks: 2,
        setup: [module load cuda/12, "export GREETING='hello world'"]}
evaluate: [configs/eval/open_world.yaml]
"""

EVAL_YAML = """
name: open_world
data: {shards: shards, sources: {flowers_test: {reader: image_folder, path: raw/flowers_test}}}
source: flowers_test
"""

FAKE_SBATCH = """#!{python}
import json, pathlib, sys
here = pathlib.Path({folder!r})
if "--test-only" in sys.argv:
    sys.exit("allocation failure: no such nodes" if (here / "no-nodes").exists() and "--nodes=2" in sys.argv else 0)
calls = sorted(here.glob("call-*.json"))
(here / f"call-{{len(calls):03d}}.json").write_text(json.dumps(sys.argv[1:]))
if (here / "refuse-from").exists() and len(calls) >= int((here / "refuse-from").read_text()):
    sys.exit("sbatch: error: invalid partition specified: gpu")
print(f"{{100 + len(calls)}};cluster")
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder for the test; `python` stands for the interpreter, so that texts are the same everywhere."""
    for folder in ("raw/flowers", "raw/flowers_test", "configs/eval", "train"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "train/finetune.py").touch()
    (tmp_path / "configs/run.yaml").write_text(RUN_YAML)
    (tmp_path / "configs/eval/open_world.yaml").write_text(EVAL_YAML)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("launch.preflight.UNKNOWN_BASE_BYTES", 1000)
    return tmp_path


@pytest.fixture
def load(project: Path) -> Callable[..., RunConfig]:
    """The project's run config with overrides."""
    return lambda *overrides: load_config(RunConfig, project / "configs/run.yaml", overrides)[0]


@pytest.fixture
def sbatch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[list[str]]]:
    """Puts a fake sbatch on PATH; returns what it was called with. Numbers in `fake/refuse-from` make it fail."""
    folder = tmp_path / "fake"
    folder.mkdir()
    program = folder / "sbatch"
    program.write_text(FAKE_SBATCH.format(python=PYTHON, folder=str(folder)))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return lambda: [json.loads(file.read_text()) for file in sorted(folder.glob("call-*.json"))]


@pytest.fixture
def add_shards(project: Path) -> Callable[..., None]:
    """Makes shard sets look whole: all have a manifest, of no samples."""
    empty: dict[str, Any] = {spec.name: () for spec in fields(Manifest)}

    def add(*names: str) -> None:
        for name in names:
            described = {"reader": "image_folder", "path": f"raw/{name}", "options": {}, "exif": "ignore", "notes": {}}
            manifest = Manifest(**empty | {"format_version": FORMAT_VERSION} | described)
            (project / "shards" / name).mkdir(parents=True)
            (project / "shards" / name / "manifest.json").write_text(manifest.to_json())

    return add


@pytest.fixture
def run_main(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Calls an entry point with arguments and returns its exit code."""

    def call(main: Callable[[], None], *arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["program", *arguments])
        try:
            main()
        except SystemExit as stop:
            return int(stop.code or 0)
        return 0

    return call
