"""Presets that share a folder of shards describe its sources alike, so that shards built by one serve the other."""

from pathlib import Path

import pytest

from configs.evaluation import EvalConfig
from configs.load import load_config
from configs.run import RunConfig

ROOT = Path(__file__).resolve().parents[2]
TRAINING = {
    "caltech101": "caltech101_projector",
    "flowers102": "flowers102_projector",
    "imagenet": "imagenet_projector",
    "stanford_cars": "stanford_cars_projector",
}


@pytest.mark.slow
@pytest.mark.parametrize("dataset", TRAINING)
@pytest.mark.parametrize("preset", ["{}_clip", "reproduce/{}"])
def test_an_evaluation_preset_describes_the_training_items_as_the_training_preset_does(dataset, preset, monkeypatch):
    monkeypatch.chdir(ROOT)
    evaluation, _ = load_config(EvalConfig, Path("configs/eval") / f"{preset.format(dataset)}.yaml")
    run, _ = load_config(RunConfig, Path("configs") / f"{TRAINING[dataset]}.yaml")
    (source,) = run.train.sources
    assert evaluation.probe_source == source
    assert evaluation.data.shards == run.data.shards
    assert evaluation.data.sources[source] == run.data.sources[source]
