"""Held-out samples have the training prompt."""

import pytest
from PIL import Image

from configs.load import load_config
from configs.run import RunConfig
from data_prep import build
from data_prep.prompts import classification_prompt
from data_prep.sample import Sample, Turn
from train.data.questions import QUESTIONS, choice_notes, reworded, training_question
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


class OneRecordSources:
    """Sources of one record each, by name."""

    def __init__(self, **answers: str):
        self.names = tuple(answers)
        self.sizes, self.starts = (1,) * len(answers), range(len(answers) + 1)
        self.answers = list(answers.values())

    def record(self, position: int) -> Sample:
        turns = (Turn("human", PAPER), Turn("gpt", self.answers[position]))
        return Sample(id="x", turns=turns, label=0, label_name="tench")


@pytest.mark.parametrize(
    ("training", "heldout", "named"),
    [
        ({"captions": "A tench in a pond."}, {"names": "tench"}, ["names"]),
        ({"captions": "A tench in a pond."}, {"names": "tench", "captions_test": "A tench swims."}, ["names"]),
        ({"captions": "A tench in a pond.", "classes": "tench"}, {"names": "tench"}, []),
        ({"classes": "tench"}, {"names": "tench"}, []),
    ],
)
def test_a_loss_of_bare_names_chooses_no_checkpoint_of_a_training_on_captions(training, heldout, named):
    notes = choice_notes(OneRecordSources(**training), OneRecordSources(**heldout))
    assert [note.split()[3] for note in notes] == named
    assert all("choose by accuracy: python -m eval.choose" in note for note in notes)


def test_a_plan_that_chooses_by_loss_says_what_the_loss_is_of(folders, monkeypatch):
    monkeypatch.setattr("train.plan.choice_notes", lambda *_: ["unlike training"])
    chooses = "train.heldout_every=1"
    for settings, said in ([], False), (["checkpoint.keep=best"], True), (["checkpoint.patience=2"], True):
        config = load_config(RunConfig, folders, ["data.prompt=authors_training", chooses, *settings])[0]
        assert ("unlike training" in make_plan(config, 1, "cpu").data_notes()) == said
