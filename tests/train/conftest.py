"""A tiny random base and shards of the demo world, made once for all training tests."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from configs.load import load_config
from configs.run import RunConfig
from data_prep import build
from tests.overrides import overrides_of
from train.toy.random_models import write_random_base

WORDS = "What type of object is in this photo a b c d e f A B C D eats red blue . , Choose or the made".split()

RUN = """
name: {name}
runs_dir: {root}/runs
seed: 3
data:
  shards: {root}/shards
  samples_per_shard: 40
  sources:
    pictures: {{reader: toy_world, options: {{part: classification, images_per_class: 2}}}}
    talk: {{reader: toy_world, options: {{part: instruct, records: 60}}}}
    unseen: {{reader: toy_world, options: {{part: classification_test, images_per_class: 1}}}}
model: {{base: {root}/base, dtype: fp32, mode: projector, lora: {{rank: 4, alpha: 8, dropout: 0.1}}}}
chat: {{system_prompt: none, max_length: 256}}
optim: {{lr_projector: 1.0e-2, lr_language: 1.0e-2, warmup_ratio: 0.1}}
train:
  {{sources: [pictures, talk], heldout: [unseen], global_batch: 8, micro_batch: 2, max_steps: 12, workers: 0,
   heldout_every: 4, heldout_samples: 10}}
checkpoint: {{every: 4}}
"""


@dataclass(frozen=True)
class TrainingSetup:
    """A folder with `base` and built shards, and a maker of run configs in it."""

    root: Path

    def config_file(self, name: str) -> Path:
        """The YAML of a run called `name`."""
        file = self.root / f"{name}.yaml"
        file.write_text(RUN.format(root=self.root, name=name))
        return file

    def arguments(self, name: str, **settings: object) -> list[str]:
        """`--config` of that run and a `--set` of each setting: `train__workers=1` for train.workers."""
        sets = [part for override in overrides_of(settings) for part in ("--set", override)]
        return ["--config", str(self.config_file(name)), *sets]

    def config(self, name: str = "run", *overrides: str) -> RunConfig:
        """The same, loaded, with `overrides` of the form key=value."""
        return load_config(RunConfig, self.config_file(name), overrides)[0]


@pytest.fixture(scope="session")
def training_setup(tmp_path_factory: pytest.TempPathFactory) -> TrainingSetup:
    made = TrainingSetup(tmp_path_factory.mktemp("training_setup"))
    write_random_base(made.root / "base", "tiny", WORDS)
    build.main(["--config", str(made.config_file("build"))])
    return made


@pytest.fixture
def write_json(tmp_path: Path) -> Callable[[str, str], Path]:
    def write(name: str, text: str) -> Path:
        file = tmp_path / name
        file.write_text(text, encoding="utf-8")
        return file

    return write
