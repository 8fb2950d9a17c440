"""Raw photographs to a report, with the README's commands: the shipped base on 2 ranks, and a LLaVA made here."""

import json
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from transformers import LlavaForConditionalGeneration

from data_prep.class_names import load_class_list
from eval import reproduce
from train.toy import tiny_clip, tiny_llava

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
WORDS = ROOT / "train" / "assets" / "tiny_llava"
PHOTOGRAPHS = ROOT.parent / "shared" / "data" / "cifar10_images.tar"
CLASSES = load_class_list("cifar10").names
TRAIN, TEST = 8, 2  # photographs of each class


def photographs(root: Path) -> None:
    """A few photographs of ten classes, or blocks of colour where the photographs are not here."""
    names = [
        f"{split}/{name}/{number:04d}.jpg"
        for split, count in (("train", TRAIN), ("test", TEST))
        for name in CLASSES
        for number in range(count)
    ]
    for seed, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        colour = np.random.default_rng(seed).integers(0, 256, 3, dtype=np.uint8)
        Image.fromarray(np.full((20 + seed % 16, 32, 3), colour, np.uint8)).save(root / name)
    if PHOTOGRAPHS.is_file():
        with tarfile.open(PHOTOGRAPHS) as tar:
            for name in names:
                (root / name).write_bytes(tar.extractfile(f"cifar10/{name}").read())


def run(*words: object) -> str:
    done = subprocess.run([str(w) for w in words], cwd=ROOT, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return done.stdout + done.stderr


def settings(values: dict[str, object]) -> list[str]:
    return [word for key, value in values.items() for word in ("--set", f"{key}={value}")]


def test_class_folders_become_a_checkpoint_and_an_accuracy_table(tmp_path, deepspeed):
    photographs(tmp_path / "raw")
    shared = settings({"data.shards": tmp_path / "shards", "data.sources.test.path": tmp_path / "raw" / "test"})
    training = shared + settings(
        {
            "data.sources.train.path": tmp_path / "raw" / "train",
            "data.samples_per_shard": 50,
            "runs_dir": tmp_path / "runs",
            "model.base": WORDS,
            "model.dtype": "fp32",
            "chat.max_length": 128,
            "chat.system_prompt": "none",
            "deepspeed.zero_stage": 2,
            "train.global_batch": 8,
            "train.max_steps": 4,
            "train.workers": 1,
        }
    )
    run(sys.executable, "-m", "data_prep.build", "--config", "configs/image_folder.yaml", *training)
    run(*deepspeed("train/finetune.py", "--config", "configs/image_folder.yaml", *training))
    folder = tmp_path / "runs" / "image_folder"
    LlavaForConditionalGeneration.from_pretrained(folder / "export")
    asked = settings({"model": folder, "dtype": "fp32", "protocol.system_prompt": "none"})
    evaluation = (sys.executable, "-m", "eval.run", "--config", "configs/eval/image_folder.yaml", *shared, *asked)
    assert "unchanged since" in run(*evaluation, "--dry-run"), "an export that nobody touched is checked again"
    run(*evaluation)
    answers = folder / "eval" / "image_folder_open_world" / "export"
    assert json.loads((answers / "report.json").read_text())["accuracy"]["n"] == len(CLASSES) * TEST
    html = (answers / "report.html").read_text()
    for name in CLASSES:
        assert name in html


def test_a_clip_and_words_become_a_llava_with_every_row_that_ten_classes_allow(tmp_path, deepspeed, monkeypatch):
    photographs(tmp_path / "raw")
    shared = settings(
        {
            "data.shards": tmp_path / "shards",
            "data.sources.train.path": tmp_path / "raw" / "train",
            "data.sources.test.path": tmp_path / "raw" / "test",
        }
    )
    tail = settings({"data.sources.alignment.path": tmp_path / "raw" / "train"})
    talk = settings({"data.sources.instruct.options": "{part: instruct, records: 8}"})
    run(sys.executable, "-m", "data_prep.build", "--config", "configs/cifar10_base.yaml", *shared, *tail, *talk)
    clip, start = tmp_path / "clip", tmp_path / "start"
    config = ["--config", str(ROOT / "configs" / "cifar10.yaml"), *shared]
    tiny_clip.main([*config, "--source", "train", "--output", str(clip), "--epochs", "1"])
    tiny_llava.main(["--clip", str(clip), "--language", str(WORDS), "--output", str(start)])
    training = {
        "runs_dir": tmp_path / "runs",
        "model.base": start,
        "deepspeed.zero_stage": 3,
        "train.global_batch": 8,
        "train.max_steps": 4,
    }
    run(*deepspeed("train/finetune.py", "--config", "configs/cifar10_lora.yaml", *shared, *settings(training)))
    monkeypatch.chdir(tmp_path)  # where a model without a run has its answers
    for model in ("runs/cifar10_lora", "clip"):
        asked = ["--model", model, "--datasets", "cifar10", "--probe-epochs", "2", *shared, *tail]
        reproduce.main([*asked, "--set", "protocol.max_new_tokens=4"])
    (ours, theirs) = (tmp_path / "runs" / "cifar10_lora" / "eval", tmp_path / "runs" / "eval")
    written, compared = (_outcomes(file) for folder in (ours, theirs) for file in folder.glob("reproduction-*.json"))
    clips = {"zero_shot", "zero_shot_2", "zero_shot_5", "frequency_clip", "linear"}
    too_many = {f"{kind}_{count}" for kind in ("candidates", "scores", "zero_shot") for count in (20, 100)}
    assert {key for key, row in written.items() if row["reason"]} == clips | too_many
    assert {key for key, row in compared.items() if not row["reason"]} == clips
    counts = {key: row["accuracy"]["n"] for rows in (compared, written) for key, row in rows.items() if row["accuracy"]}
    assert 0 < counts.pop("guidance") < len(CLASSES) * TEST, "t is chosen on the others"
    assert set(counts.values()) == {len(CLASSES) * TEST}
    assert {"open", "closed_cot", "scores_mean", "candidates_5", "probe", "zero_shot_2", "linear"} <= counts.keys()
    assert json.loads((tmp_path / "runs" / "scoreboard.json").read_text())["reproductions"]


def _outcomes(file: Path) -> dict[str, dict[str, Any]]:
    return {row["row"]: row for row in json.loads(file.read_text())["rows"]}
