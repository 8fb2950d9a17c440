"""The caption presets (Table 4): what training asks, the launched evaluation asks."""

from pathlib import Path

import pytest

from configs.evaluation import EvalConfig
from configs.load import load_config
from configs.run import RunConfig
from data_prep.prompts import classification_prompt
from eval.paper.finetuned_rows import Training, finetuned_rows
from eval.paper.published import paper_numbers

ROOT = Path(__file__).resolve().parents[2]
NAMES = {"flowers102": "Flowers102", "stanford_cars": "StanfordCars", "caltech101": "Caltech101"}


@pytest.mark.slow
@pytest.mark.parametrize("dataset", NAMES)
def test_the_launched_evaluation_asks_the_papers_training_question(dataset, monkeypatch):
    monkeypatch.chdir(ROOT)
    run, _ = load_config(RunConfig, Path(f"configs/{dataset}_captions.yaml"))
    assert run.train.sources == (f"{dataset}_captions",)
    question = run.data.sources[f"{dataset}_captions"].options["question"]
    assert question == "Generate a caption for the image."
    (evaluation,) = run.evaluate
    config, _ = load_config(EvalConfig, Path(evaluation))
    assert classification_prompt(config.protocol.prompt) == question
    assert config.source == f"{dataset}_test"
    row = f"table4/captions/LLaVA1.5-7B/{NAMES[dataset]}"
    assert config.paper_row == row and row in paper_numbers()
    training = Training(run.model.base, run.model.mode, run.train.sources)
    protocol = {"task": "open_world", "prompt": config.protocol.prompt}
    assert finetuned_rows(training, protocol, NAMES[dataset]) == [row]


@pytest.mark.parametrize("dataset", NAMES)
def test_no_caption_preset_chooses_by_the_loss_of_bare_names(dataset):
    run, _ = load_config(RunConfig, ROOT / f"configs/{dataset}_captions.yaml")
    assert (run.checkpoint.keep, run.checkpoint.patience) == ("last", 0)
    assert run.checkpoint.keep_every, "checkpoints that eval.choose can choose from"
