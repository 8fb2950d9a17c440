"""Which folder has the answers of a model, as its files' names say it."""

from dataclasses import replace

import pytest

from configs.data import DataConfig, SourceConfig
from configs.evaluation import EvalConfig
from configs.run_dir import RunDir
from eval.runner.output_paths import present_answers

DATA = DataConfig(sources={"pets": SourceConfig(reader="image_folder", path="x")})
CONFIG = EvalConfig(name="pets", model="m", source="pets", data=DATA)


@pytest.fixture
def run(tmp_path):
    """A run with checkpoints at steps 5 and 10, and answers of each and of its export."""
    made = RunDir(tmp_path / "mix")
    for step in (5, 10):
        made.checkpoint(step).mkdir(parents=True)
    made.export.mkdir()
    made.config.touch()
    for label in ("step-00000005", "step-00000010", "export"):
        (made.evaluation("pets") / label).mkdir(parents=True)
        (made.evaluation("pets") / label / "evaluation.json").touch()
    return made


@pytest.mark.parametrize(
    ("checkpoint", "label"), [("export", "export"), ("last", "step-00000010"), ("5", "step-00000005"), ("7", None)]
)
def test_the_answers_of_every_checkpoint_are_found(run, checkpoint, label):
    found = present_answers(replace(CONFIG, model=str(run.root), checkpoint=checkpoint))
    assert (found and found.root) == (label and run.evaluation("pets") / label)


def test_the_answers_of_an_export_by_itself_are_those_of_its_name(run):
    assert present_answers(replace(CONFIG, model=str(run.export))).root == run.evaluation("pets") / "export"


def test_a_model_of_no_run_has_one_folder(tmp_path):
    config = replace(CONFIG, output=str(tmp_path))
    assert present_answers(config) is None
    (tmp_path / "evaluation.json").touch()
    assert present_answers(config).root == tmp_path
