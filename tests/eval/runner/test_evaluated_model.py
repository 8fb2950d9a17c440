"""What was measured: a published model, or what a run trained, found by the run's folder or by the export alone."""

import json

import pytest

from configs.run_dir import RunDir
from eval.runner.evaluated_model import EvaluatedModel, describe_model, identify_model

CONFIG = """
name: x
data: {sources: {flowers102_train: {reader: image_folder, path: a}}}
model: {base: hub/model, mode: lora}
train: {sources: [flowers102_train]}
"""


@pytest.fixture
def run(tmp_path) -> RunDir:
    run = RunDir(tmp_path / "runs" / "x")
    run.checkpoint(5).mkdir(parents=True)
    run.export.mkdir()
    run.config.write_text(CONFIG)
    return run


def test_a_run_its_checkpoints_and_its_exports_are_what_it_trained(run):
    trained = EvaluatedModel("hub/model", "lora", ("flowers102_train",))
    assert {identify_model(str(path)) for path in (run.root, run.checkpoint(5), run.export)} == {trained}
    assert trained.finetuned


def test_an_export_that_was_moved_away_remembers_its_training(tmp_path):
    values = {"base": "hub/model", "mode": "projector", "sources": ["imagenet_train"]}
    (tmp_path / "export.json").write_text(json.dumps(values))
    assert identify_model(str(tmp_path)) == EvaluatedModel("hub/model", "projector", ("imagenet_train",))


def test_any_other_model_is_as_it_was_published(tmp_path):
    assert not identify_model(str(tmp_path)).finetuned
    assert identify_model("llava-hf/llava-1.5-7b-hf") == EvaluatedModel("llava-hf/llava-1.5-7b-hf")


def test_a_lora_merged_onto_other_weights_is_distinguished_from_one_on_its_base(tmp_path):
    values = {"base": "hub/model", "mode": "lora", "sources": ["imagenet"], "lora_onto": {"model": "hub/vicuna"}}
    (tmp_path / "export.json").write_text(json.dumps(values))
    assert identify_model(str(tmp_path)).lora_onto == "hub/vicuna"
    assert describe_model(str(tmp_path))["lora_onto"] == "hub/vicuna"
