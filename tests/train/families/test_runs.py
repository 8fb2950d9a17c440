"""Whole runs of every family: kill -9 and resume, the export in plain transformers, adapters merged and apart."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForImageTextToText

from configs.protocol import ProtocolConfig
from configs.run_dir import RunDir
from data_prep.sample import Turn
from eval.models.generate import TextPredictor
from tests.overrides import overrides_of
from tests.train.families.cases import ALL
from tests.train.families.conftest import TrainedFamily, items
from train.checkpoints.reading import newest_checkpoint
from train.exported_model import export_checkpoint
from train.models.loading import load_model
from train.models.lora import is_lora
from train.models.param_groups import choose_trainable

pytestmark = pytest.mark.slow

SHORT = {"train__max_steps": 4, "checkpoint__every": 2, "checkpoint__export": "true"}
SETTINGS = {
    "lora": SHORT | {"model__mode": "lora", "model__lora__dropout": 0.1},
    "full": SHORT | {"model__mode": "full", "train__max_steps": 2},
}
KILL = {"rank": 0, "stage": "update", "step": 3, "do": "kill"}
NEW_TOKENS = 6
FAMILIES = [name for name, case in ALL.items() if not case.variant]
KILLED = [*FAMILIES, "idefics3"]
FULL = [*FAMILIES, "llava_tied"]
"""Variants of a family have another language model: their exports are checked, of one run each; that of a tied head in
mode full as well. Resumption does not depend on it."""
EXPORTED = [*((name, "lora") for name in ALL), *((name, "full") for name in FULL)]


@dataclass
class Runs:
    """The runs of one family (`tests.train.faults.conftest.Ranks`), on a base with dropout."""

    trained: TrainedFamily
    ranks: dict[str, Any]

    def of(self, mode: str) -> RunDir:
        """The run in mode lora or full."""
        run: RunDir = self.ranks[{"lora": "straight", "full": "full"}[mode]].run
        return run

    def plan(self, mode: str) -> Any:
        """The plan that the run of this mode had."""
        return self.trained.plan(*overrides_of(SETTINGS[mode]))


def with_dropout(trained: TrainedFamily) -> TrainedFamily:
    """The same family on a copy of its folder whose dropouts are 0.1."""
    folder = trained.folder.with_name(f"{trained.case.name}_dropout")
    if not folder.is_dir():
        shutil.copytree(trained.folder, folder)
        config = json.loads((folder / "config.json").read_text())
        for name in trained.case.dropout:
            section, _, key = name.partition(".")
            config[section][key] = 0.1
        (folder / "config.json").write_text(json.dumps(config))
    return TrainedFamily(trained.case, trained.root, folder)


@pytest.fixture(scope="module")
def runs_of(family_of_case, forker) -> Callable[[str], Runs]:
    """The runs of a family, made once: straight with LoRA, killed and resumed, and two steps of all parameters."""
    made: dict[str, Runs] = {}

    def get(name: str) -> Runs:
        if name not in made:
            trained = with_dropout(family_of_case(name))
            family_forker = replace(forker, training_setup=trained)
            starts: dict[str, tuple[str, tuple[dict[str, Any], ...]]] = {"straight": ("lora", ())}
            starts |= {"killed": ("lora", (dict(KILL),))} if name in KILLED else {}
            starts |= {"full": ("full", ())} if name in FULL else {}
            ranks = {
                run: family_forker.start(f"{run}_{name}", *faults, ranks=1, **SETTINGS[mode])
                for run, (mode, faults) in starts.items()
            }
            for run in ranks.values():
                run.ended()
            if killed := ranks.pop("killed", None):
                assert killed.codes == {0: -9}, killed.text()[-3000:]
                ranks["resumed"] = family_forker.start(f"killed_{name}", resume=True, ranks=1, **SETTINGS["lora"])
                ranks["resumed"].ended()
            for run in ranks.values():
                assert run.codes == {0: 0}, run.text()[-3000:]
            made[name] = Runs(trained, ranks)
        return made[name]

    return get


@pytest.mark.parametrize("name", KILLED)
def test_a_killed_run_continues_bit_for_bit(runs_of, name):
    straight, resumed = (runs_of(name).ranks[run] for run in ("straight", "resumed"))
    assert len(straight.hexes()) == 4
    assert resumed.hexes() == straight.hexes()
    (event,) = resumed.events("resumed")
    assert event["step"] == 2
    weights = [newest_checkpoint(ranks.run)[0].weights() for ranks in (straight, resumed)]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def trained_model(runs: Runs, mode: str, run: RunDir) -> Any:
    """The base with the checkpoint's weights, LoRA as it was trained: neither merged nor exported."""
    plan = runs.plan(mode)
    model = load_model(str(runs.trained.folder), None, "fp32", "sdpa").model
    choose_trainable(model, plan.family, plan.config.model, plan.config.optim)
    weights = newest_checkpoint(run)[0].weights()
    parameters = dict(model.named_parameters())
    assert weights.keys() == {name for name, parameter in parameters.items() if parameter.requires_grad}
    for name, tensor in weights.items():
        parameters[name].data.copy_(tensor)
    return model.eval()


@torch.inference_mode()
def logits(trained: TrainedFamily, model: Any) -> list[torch.Tensor]:
    """By transformers' own forward, of conversations with an image."""
    chosen = [item for item in items(trained.case) if item.image is not None]
    return [model(**trained.inputs(item)).logits for item in chosen]


def assert_has_the_training(trained: TrainedFamily, exported: Any, expected: Any, tolerance: float = 1e-4) -> None:
    """The exported model's logits are the trained model's and differ from the base's."""
    base = AutoModelForImageTextToText.from_pretrained(trained.folder, dtype=torch.float32).eval()
    for ours, theirs, before in zip(*(logits(trained, model) for model in (exported, expected, base)), strict=True):
        scale = float(theirs.abs().max())
        assert (ours - theirs).abs().max() <= tolerance * scale
        assert (ours - before).abs().max() > 100 * tolerance * scale


def exported_model(folder: Path) -> Any:
    return AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()


@pytest.mark.parametrize(("name", "mode"), EXPORTED)
def test_the_export_is_the_trained_model_in_plain_transformers(runs_of, name, mode):
    runs, run = runs_of(name), runs_of(name).of(mode)
    assert_has_the_training(runs.trained, exported_model(run.export), trained_model(runs, mode, run))


@pytest.mark.parametrize("name", FAMILIES)
def test_an_adapter_kept_apart_is_the_trained_model_through_peft(runs_of, tmp_path, name):
    runs, run = runs_of(name), runs_of(name).of("lora")
    kept = export_checkpoint(run, newest_checkpoint(run)[0], tmp_path / "kept", keep_adapter=True)
    plain = exported_model(kept)
    weights = newest_checkpoint(run)[0].weights()
    assert any(is_lora(name) and weights[name].abs().max() > 0 for name in weights if "lora_B" in name)
    without = logits(runs.trained, plain)
    adapted = PeftModel.from_pretrained(plain, kept / "adapter").eval()
    assert_has_the_training(runs.trained, adapted, trained_model(runs, "lora", run))
    apart = [(a - b).abs().max() for a, b in zip(logits(runs.trained, adapted), without, strict=True)]
    assert min(apart) > 1e-3, "the adapter has an effect"


@pytest.mark.parametrize("name", ALL)
@torch.inference_mode()
def test_the_export_answers_as_transformers_generates_with_its_own_processor(runs_of, name):
    trained, export = runs_of(name).trained, runs_of(name).of("full" if name in FULL else "lora").export
    of_export = TrainedFamily(trained.case, trained.root, export)
    model = exported_model(export)
    predictor = TextPredictor(load_model(str(export), None, "fp32", "sdpa"), ProtocolConfig(max_new_tokens=NEW_TOKENS))
    chosen = [item for item in items(trained.case) if item.image is not None and len(item.exchanges) == 1]
    prompts = [predictor.prompt((Turn("human", f"<image>\n{item.exchanges[0][0]}"),), item.image) for item in chosen]
    together = [answer.token_ids for answer in predictor.predict(prompts)]
    for item, prompt, ours in zip(chosen, prompts, together, strict=True):
        inputs = of_export.inputs(item, answered=False)
        assert prompt.input_ids == inputs["input_ids"][0].tolist()
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        output = model.generate(**inputs, do_sample=False, max_new_tokens=NEW_TOKENS)
        expected = output[0, len(prompt.input_ids) :].tolist()
        assert ours == expected
        assert predictor.predict([prompt])[0].token_ids == ours
