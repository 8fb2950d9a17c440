"""What each mode trains in every family, and that the dry run says so."""

import re
import shutil
from pathlib import Path

import pytest
import torch

from configs.errors import ConfigError
from configs.load import load_config
from configs.run import RunConfig
from train.models.lora import is_lora
from train.models.param_groups import count_parts
from train.plan import make_plan
from train.tools.preview import preview

pytestmark = pytest.mark.slow

TRAINED = {
    "projector": {"projector"},
    "lora": {"projector", "LoRA"},
    "full": {"projector", "language", "vision"},
}
SCOPES = {
    "language, projector, vision": {"LoRA", "LoRA projector", "LoRA vision"},
    "vision": {"projector", "LoRA vision"},
    "projector": {"LoRA projector"},
}


@pytest.mark.parametrize("scope", SCOPES)
def test_a_lora_scope_adapts_all_layers_of_its_parts_that_run(trained, scope):
    plan = trained.plan("model.mode=lora", f"model.lora.scope=[{scope}]")
    model, family = trained.ours(plan).model, plan.family
    counts = {row.part: row.trainable for row in count_parts(model, family, plan.config.optim) if row.trainable}
    assert set(counts) == SCOPES[scope]
    whole = "projector" not in plan.config.model.lora.scope
    for name, parameter in model.named_parameters():
        part = family.part_of(name)
        assert parameter.requires_grad == (is_lora(name) or (whole and part == "projector")), name
        assert not is_lora(name) or (part in plan.config.model.lora.scope and family.runs(name)), name
    for name, module in model.named_modules():
        if type(module) is torch.nn.Linear and re.search(r"\.\d+\.", name) and ".lora_" not in name:
            adapted = family.part_of(name) in plan.config.model.lora.scope and family.runs(f"{name}.weight")
            assert name.endswith(".base_layer") == adapted, name


def test_selective_attention_trains_the_projections_of_the_language_model_alone(trained):
    plan = trained.plan("model.mode=selective")
    model = trained.ours(plan).model
    found = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    layers = len(plan.family.decoder(model).layers)
    assert all(plan.family.part_of(name) == "language" for name in found)
    projections = {name.split(".")[-2] for name in found}
    assert projections in ({"q_proj", "k_proj", "v_proj", last} for last in ("o_proj", "out_proj"))
    assert sum(name.endswith(".weight") for name in found) == 4 * layers
    told = preview(plan)
    assert "self_attn.q_proj" in next(line for line in told.splitlines() if line.startswith("trained language"))


@pytest.mark.parametrize("mode", TRAINED)
def test_a_mode_trains_whole_parts_and_no_other_and_the_dry_run_counts_them(trained, mode):
    plan = trained.plan(f"model.mode={mode}")
    parameters = dict(trained.ours(plan).model.named_parameters())
    sizes: dict[str, int] = {}
    frozen = set()
    for name, parameter in parameters.items():
        part = "LoRA" if is_lora(name) else plan.family.part_of(name)
        if parameter.requires_grad:
            sizes[part] = sizes.get(part, 0) + parameter.numel()
        else:
            frozen.add(part)
    assert set(sizes) == TRAINED[mode]
    assert not frozen & set(sizes), "whole parts"
    assert "other" not in frozen | set(sizes), "every parameter belongs to a part"
    told = preview(plan)
    rows = {words[0]: words for line in told.splitlines() if (words := line.split())}
    assert {part: rows[part][2] for part in sizes} == {part: f"{size:,}" for part, size in sizes.items()}
    for part in set(sizes) - {"LoRA"}:
        line = next(line for line in told.splitlines() if line.startswith(f"trained {part}"))
        owned = [
            prefix for prefix in plan.family.parts[part] if any(name.startswith(prefix) for name in parameters)
        ]  # a tied head has none
        assert all(prefix.rstrip(".") in line for prefix in owned)
    assert ("trained LoRA      on q_proj, k_proj, v_proj, " in told) == (mode == "lora")
    untrained = {"projector", "language", "vision"} - set(sizes)
    assert all(rows[part][2:] == ["0", "frozen"] for part in untrained)


def test_a_dry_run_needs_settings_and_tokenizer_alone_and_says_that_weights_are_absent(trained, tmp_path):
    folder = Path(shutil.copytree(trained.folder, tmp_path / "settings"))
    for file in folder.glob("*.safetensors*"):
        file.unlink()
    file = trained.config_file(f"no_weights_{trained.case.name}", folder)
    config, _ = load_config(RunConfig, file, trained.case.settings)
    told = preview(make_plan(config, 1, "cpu", count=True)).replace(
        f"weights           none in {folder}, so not checked; a training needs them\n\n", ""
    )
    whole = preview(trained.plan())
    assert told[told.index("steps per epoch") :] == whole[whole.index("steps per epoch") :]
    assert str(folder) not in told
    with pytest.raises(ConfigError, match=r"has no \*\.safetensors file"):
        make_plan(config, 1, "cpu")
    (folder / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"has no \*\.safetensors file"):
        make_plan(config, 1, "cpu", count=True)
