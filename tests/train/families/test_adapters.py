"""LoRA's variants and scopes and mode `selective` in whole runs: kill -9 and resume, exports merged and apart."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from peft import PeftModel

from configs.errors import RunError
from configs.run_dir import RunDir
from tests.overrides import overrides_of
from tests.train.families.test_runs import KILL, SHORT, assert_has_the_training, exported_model, logits, with_dropout
from train.checkpoints.reading import newest_checkpoint
from train.exported_model import export_checkpoint
from train.models.loading import load_model
from train.models.param_groups import choose_trainable
from train.models.pissa import read_initial, start_from

pytestmark = pytest.mark.slow

LORA = {"model__mode": "lora", "model__lora__dropout": 0.1}
EVERYWHERE = {"model__lora__scope": "[language, projector, vision]"}
RUNS = {
    "llava rslora": LORA | EVERYWHERE | {"model__lora__variant": "rslora"},
    "llava dora": LORA | EVERYWHERE | {"model__lora__variant": "dora"},
    "llava pissa": LORA | EVERYWHERE | {"model__lora__variant": "pissa"},
    "qwen3_vl pissa": LORA | {"model__lora__scope": "[vision]", "model__lora__variant": "pissa"},
    "llava selective": {"model__mode": "selective", "model__selective": "multi_modal_projector|self_attn"},
}
KILLED = ["llava dora", "llava pissa", "llava selective"]
"""rsLoRA has the state of LoRA, and a scope that of another; what trains in them is in the export."""
LORA_RUNS = [name for name in RUNS if "selective" not in name]


class AdapterRuns:
    """A run straight through, and for those in `KILLED` the same one killed and resumed."""

    def __init__(self, name: str, trained: Any, forker: Any):
        self.trained = with_dropout(trained)
        self.settings = SHORT | RUNS[name]
        forker, label = replace(forker, training_setup=self.trained), name.replace(" ", "_")
        self.straight = forker.start(f"straight_{label}", ranks=1, **self.settings)
        if name in KILLED:
            killed = forker.start(f"killed_{label}", dict(KILL), ranks=1, **self.settings)
            killed.ended()
            assert killed.codes == {0: -9}, killed.text()[-3000:]
            self.resumed = forker.start(f"killed_{label}", resume=True, ranks=1, **self.settings)
            self.resumed.ended()
            assert self.resumed.codes == {0: 0}, self.resumed.text()[-3000:]
        self.straight.ended()
        assert self.straight.codes == {0: 0}, self.straight.text()[-3000:]

    def model(self, run: RunDir) -> Any:
        """The base with the checkpoint's weights as they were trained: neither merged nor exported."""
        plan = self.trained.plan(*overrides_of(self.settings))
        model, config = load_model(str(self.trained.folder), None, "fp32", "sdpa").model, plan.config.model
        choose_trainable(model, plan.family, config, plan.config.optim)
        if config.lora.variant == "pissa":
            start_from(model, read_initial(run), config.lora)
        weights, parameters = newest_checkpoint(run)[0].weights(), dict(model.named_parameters())
        assert weights.keys() == {name for name, parameter in parameters.items() if parameter.requires_grad}
        for name, tensor in weights.items():
            parameters[name].data.copy_(tensor)
        return model.eval()


@pytest.fixture(scope="module")
def runs_of(family_of_case, forker) -> Callable[[str], AdapterRuns]:
    """The runs by the name of their settings, made once."""
    made: dict[str, AdapterRuns] = {}

    def get(name: str) -> AdapterRuns:
        if name not in made:
            made[name] = AdapterRuns(name, family_of_case(name.split()[0]), forker)
        return made[name]

    return get


@pytest.mark.parametrize("name", KILLED)
def test_a_killed_run_continues_bit_for_bit_whatever_it_trains(runs_of, name):
    runs = runs_of(name)
    assert len(runs.straight.hexes()) == 4
    assert runs.resumed.hexes() == runs.straight.hexes()
    weights = [newest_checkpoint(ranks.run)[0].weights() for ranks in (runs.straight, runs.resumed)]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.parametrize("name", RUNS)
def test_its_export_is_the_trained_model_in_plain_transformers(runs_of, name):
    runs = runs_of(name)
    assert_has_the_training(runs.trained, exported_model(runs.straight.run.export), runs.model(runs.straight.run))


@pytest.mark.parametrize("name", LORA_RUNS)
def test_its_adapter_kept_apart_is_the_trained_model_through_peft_and_through_peft_s_own_merge(runs_of, name, tmp_path):
    runs, run = runs_of(name), runs_of(name).straight.run
    kept = export_checkpoint(run, newest_checkpoint(run)[0], tmp_path / "kept", keep_adapter=True)
    plain = exported_model(kept)
    without = logits(runs.trained, plain)
    adapted = PeftModel.from_pretrained(plain, kept / "adapter").eval()
    assert_has_the_training(runs.trained, adapted, runs.model(run))
    apart = [(a - b).abs().max() for a, b in zip(logits(runs.trained, adapted), without, strict=True)]
    assert min(apart) > 1e-3, "the adapter has an effect"
    ours, theirs = exported_model(run.export).state_dict(), adapted.merge_and_unload().state_dict()
    assert ours.keys() == theirs.keys()
    for key in ours:
        torch.testing.assert_close(ours[key], theirs[key], atol=1e-5, rtol=1e-5)


def test_pissa_without_the_matrices_it_began_with_is_refused_and_a_run_begins_with_the_bases_outputs(runs_of):
    runs = runs_of("llava pissa")
    run = runs.resumed.run
    begun = runs.model(run)
    start = {name: tensor for name, tensor in read_initial(run).items() if "lora_" in name}
    for name, tensor in start.items():
        begun.get_parameter(name).data.copy_(tensor)
    base = exported_model(runs.trained.folder)
    for name in ("model.language_model.layers.0.mlp.up_proj", "model.vision_tower.encoder.layers.0.mlp.fc1"):
        layer = begun.get_submodule(name)
        residual, whole = layer.base_layer.weight, base.get_submodule(name).weight
        torch.testing.assert_close(residual + layer.get_delta_weight("default"), whole, atol=1e-5, rtol=1e-5)
        gone = torch.linalg.svdvals(whole)[:4].square().sum().sqrt()
        torch.testing.assert_close((whole - residual).norm(), gone, atol=1e-4, rtol=1e-4)
    run.pissa.unlink()
    with pytest.raises(RunError, match=r"pissa\.safetensors cannot be read .* needs it"):
        export_checkpoint(run, newest_checkpoint(run)[0], run.root / "again")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("llava dora", "trained DoRA, whose magnitudes are those of the base's weights"),
        ("qwen3_vl pissa", r"trained no LoRA on the language model \(model.lora.scope is vision\)"),
        ("llava selective", r"trained no LoRA \(model.mode is selective\)"),
    ],
)
def test_what_cannot_be_merged_onto_another_language_model_is_refused(runs_of, tmp_path, name, why):
    runs = runs_of(name)
    run, folder = runs.straight.run, str(runs.trained.folder)
    with pytest.raises(RunError, match=why):
        export_checkpoint(run, newest_checkpoint(run)[0], tmp_path / "onto", lora_onto=folder)
