"""Raw photographs to a report, with the README's commands and the shipped base: 2 ranks, ZeRO-2 and ZeRO-3."""

import json
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from transformers import LlavaForConditionalGeneration

ROOT = Path(__file__).resolve().parents[1]
PHOTOGRAPHS = ROOT.parent / "shared" / "data" / "cifar10_images.tar"
CLASSES = ("bird", "cat", "frog")


def photographs(root: Path) -> None:
    """A few photographs of three classes, or blocks of colour where the photographs are not here."""
    for split, count in (("train", 24), ("test", 4)):
        for label, name in enumerate(CLASSES):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                rng = np.random.default_rng([label, number, count])
                block = np.full((20 + number, 32, 3), 80 * label + 20, np.uint8) + rng.integers(
                    0, 40, 3, dtype=np.uint8
                )
                Image.fromarray(block).save(folder / f"{number:04d}.jpg")
    if not PHOTOGRAPHS.is_file():
        return
    with tarfile.open(PHOTOGRAPHS) as tar:
        for split, count in (("train", 24), ("test", 4)):
            for name in CLASSES:
                for number in range(count):
                    member = tar.extractfile(f"cifar10/{split}/{name}/{number:04d}.jpg")
                    (root / split / name / f"{number:04d}.jpg").write_bytes(member.read())


def run(*words: object) -> str:
    done = subprocess.run([str(w) for w in words], cwd=ROOT, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return done.stdout + done.stderr


@pytest.mark.parametrize(("stage", "mode"), [(2, "projector"), (3, "lora")])
def test_class_folders_become_a_checkpoint_and_an_accuracy_table(tmp_path, deepspeed, stage, mode):
    photographs(tmp_path / "raw")
    sets = {
        "data.shards": tmp_path / "shards",
        "data.sources.test.path": tmp_path / "raw" / "test",
        "data.samples_per_shard": 50,
    }
    shared = [part for key, value in sets.items() for part in ("--set", f"{key}={value}")]
    train = {
        "data.sources.train.path": tmp_path / "raw" / "train",
        "runs_dir": tmp_path / "runs",
        "model.base": ROOT / "train" / "assets" / "tiny_llava",
        "model.dtype": "fp32",
        "model.mode": mode,
        "model.lora.rank": 8,
        "chat.max_length": 128,
        "chat.system_prompt": "none",
        "deepspeed.zero_stage": stage,
        "train.global_batch": 8,
        "train.max_steps": 4,
        "train.workers": 1,
    }
    training = [part for key, value in train.items() for part in ("--set", f"{key}={value}")]
    python = sys.executable
    run(python, "-m", "data_prep.build", "--config", "configs/image_folder.yaml", *shared, *training)
    run(*deepspeed("train/finetune.py", "--config", "configs/image_folder.yaml", *shared, *training))
    folder = tmp_path / "runs" / "image_folder"
    LlavaForConditionalGeneration.from_pretrained(folder / "export")
    asked = ["--set", f"model={folder}", "--set", "dtype=fp32", "--set", "protocol.system_prompt=none"]
    run(python, "-m", "eval.run", "--config", "configs/eval/image_folder.yaml", *shared, *asked)
    report = json.loads((folder / "eval" / "image_folder_open_world" / "export" / "report.json").read_text())
    assert report["accuracy"]["n"] == len(CLASSES) * 4
    html = (folder / "eval" / "image_folder_open_world" / "export" / "report.html").read_text()
    for name in CLASSES:
        assert name in html
