"""Held-out samples are asked in the words of training."""

import pytest
from PIL import Image

from configs.load import load_config
from configs.run import RunConfig
from data_prep import build
from data_prep.prompts import classification_prompt
from data_prep.sample import Sample, Turn
from train.data.questions import QUESTIONS, reworded, training_question
from train.data.sources import SourceSet
from train.plan import make_plan

PAPER, AUTHORS = (f"<image>\n{classification_prompt(name)}" for name in ("paper", "authors_training"))


def sample(question: str) -> Sample:
    return Sample(id="x", turns=(Turn("human", question), Turn("gpt", "tench")), label=0)


def test_a_classification_question_is_reworded_and_nothing_else_is():
    changed = reworded(sample(PAPER), AUTHORS)
    assert changed.turns == (Turn("human", AUTHORS), Turn("gpt", "tench"))
    other = sample("<image>\nWhat does it eat?")
    assert reworded(other, AUTHORS) is other
    assert len(QUESTIONS) > 4


@pytest.fixture(scope="module")
def folders(tmp_path_factory, training_setup):
    """Class folders with one image each, and the config of a run on them."""
    root = tmp_path_factory.mktemp("questions")
    for number, part in enumerate(("train", "test")):
        for shade, name in enumerate(("tench", "goldfish")):
            (root / part / name).mkdir(parents=True)
            Image.new("RGB", (16, 16), (90 * number, 90 * shade, 0)).save(root / part / name / "0.png")
    file = root / "run.yaml"
    file.write_text(f"""
name: run
runs_dir: {root}/runs
data:
  shards: {root}/shards
  sources:
    train: {{reader: image_folder, path: {root}/train, options: {{prompt: "${{data.prompt}}"}}}}
    other: {{reader: image_folder, path: {root}/train, options: {{prompt: identify}}}}
    test: {{reader: image_folder, path: {root}/test}}
model: {{base: {training_setup.root}/base, dtype: fp32}}
chat: {{system_prompt: none, max_length: 128}}
train: {{sources: [train], heldout: [test], global_batch: 2, workers: 0}}
""")
    build.main(["--config", str(file), "--set", "data.prompt=authors_training"])
    return file


def test_held_out_examples_of_a_training_ask_its_question(folders):
    config = load_config(RunConfig, folders, ["data.prompt=authors_training"])[0]
    plan = make_plan(config, 1, "cpu")
    assert training_question(plan.sources) == AUTHORS
    example = plan.heldout_examples()[0]
    assert "in the photo" in plan.example_builder.renderer.tokenizer.decode(example.input_ids)


def test_two_wordings_in_training_leave_the_held_out_one(folders):
    config = load_config(RunConfig, folders, ["data.prompt=authors_training"])[0]
    assert training_question(SourceSet.of(config.data, ["train", "other"])) is None
    assert training_question(SourceSet.of(config.data, ["other"])) == f"<image>\n{classification_prompt('identify')}"
