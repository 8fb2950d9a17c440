"""What planning a run refuses before a model is loaded."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from configs.errors import ConfigError, DataError
from data_prep import build
from train.data.sources import SourceSet
from train.plan import make_plan
from train.tools.preview import preview

ROOT = Path(__file__).resolve().parents[2]


def test_a_projector_run_without_any_image_is_refused(training_setup, monkeypatch):
    monkeypatch.setattr(SourceSet, "with_image", lambda self: np.zeros(len(self), dtype=bool))
    with pytest.raises(DataError, match=r"no sample of .* has an image, so nothing would be trained"):
        make_plan(training_setup.config("textual", "model.mode=projector"), 1, "cpu")
    make_plan(training_setup.config("textual_lora", "model.mode=lora"), 1, "cpu")


@pytest.fixture(scope="module")
def again(training_setup) -> str:
    """The setting of a source `again` that has the images of `pictures`; it is built."""
    setting = "data.sources.again={reader: toy_world, options: {part: classification, images_per_class: 2}}"
    build.main(["--config", str(training_setup.config_file("build")), "--set", setting, "--sources", "again"])
    return setting


def test_training_images_that_are_also_held_out_are_in_the_dry_run(training_setup, again):
    plan = make_plan(training_setup.config("twice", again, "train.heldout=[again]"), 1, "cpu")
    spelling, note = [line for line in preview(plan, 0).splitlines() if line.startswith("train and test")]
    assert "the model's tokenizer cannot write 48 of 48 class names as they are" in spelling
    assert "images of again are also in the training source pictures, such as " in note
    assert note.endswith("are both the same data?")
    assert len(make_plan(training_setup.config("fits"), 1, "cpu").data_notes()) == 1, "the tokenizer's"


@pytest.mark.slow
def test_a_training_says_what_does_not_fit_and_keeps_it_as_an_event(training_setup, again):
    arguments = training_setup.arguments("said", train__heldout="[again]", train__max_steps=1)
    done = subprocess.run(
        [sys.executable, "train/finetune.py", *arguments, "--set", again],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "train and test: " in done.stdout
    events = (training_setup.root / "runs" / "said" / "events.jsonl").read_text().splitlines()
    _, event = [event for event in map(json.loads, events) if event["kind"] == "data"]
    assert "images of again are also in the training source pictures" in event["message"]


def test_the_dry_run_refuses_a_base_whose_weights_are_not_those_of_its_config(training_setup, tmp_path):
    base = shutil.copytree(training_setup.root / "base", tmp_path / "base")
    weights = {name: tensor for name, tensor in load_file(base / "model.safetensors").items() if "project" not in name}
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    plan = make_plan(training_setup.config("broken", f"model.base={base}"), 1, "cpu")
    with pytest.raises(ConfigError, match=r"4 weights are missing \(model\.multi_modal_projector"):
        preview(plan, 0)


@pytest.mark.slow
def test_the_dry_run_says_that_zero_3_trains_lora_with_pefts_layers(training_setup):
    told = {}
    for stage in (2, 3):
        config = training_setup.config(f"lora{stage}", "model.mode=lora", f"deepspeed.zero_stage={stage}")
        told[stage] = preview(make_plan(config, 1, "cpu"), 0)
    assert (
        "\nLoRA              peft's layers, as deepspeed.zero_stage is 3 and fetches weights layer by layer" in told[3]
    )
    assert "peft" not in told[2]


def test_the_dry_run_names_kernels_and_attention_and_why(training_setup):
    plan = make_plan(training_setup.config("kernels"), 1, "cpu")
    lines = {line.partition(" ")[0]: line for line in preview(plan, 0).splitlines()}
    assert lines["kernels"].endswith(" none (auto: no GPU); the decoder's last layer runs at targets only")
    assert lines["attention"].endswith(" sdpa (auto)")
    settings = ("model.kernels=compile", "model.attention=eager")
    lines = {
        line.partition(" ")[0]: line
        for line in preview(make_plan(training_setup.config("named", *settings), 1, "cpu"), 0).splitlines()
    }
    assert lines["kernels"].endswith(
        " compile (set in model.kernels); transformers runs the decoder's layers with model.attention: eager"
    )
    assert lines["attention"].endswith(" eager (set in model.attention)")
