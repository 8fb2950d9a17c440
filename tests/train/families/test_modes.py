"""What each mode trains in every family, and that the dry run says so."""

import shutil
from pathlib import Path

import pytest

from configs.errors import ConfigError
from configs.load import load_config
from configs.run import RunConfig
from train.models.lora import is_lora
from train.plan import make_plan
from train.tools.preview import preview

pytestmark = pytest.mark.slow

TRAINED = {
    "projector": {"projector"},
    "lora": {"projector", "LoRA"},
    "full": {"projector", "language", "vision"},
}


@pytest.mark.parametrize("mode", TRAINED)
def test_a_mode_trains_whole_parts_and_no_other(trained, mode):
    plan = trained.plan(f"model.mode={mode}")
    total, found = {}, {}
    for name, parameter in trained.ours(plan).model.named_parameters():
        part = "LoRA" if is_lora(name) else plan.family.part_of(name)
        total[part] = total.get(part, 0) + 1
        found[part] = found.get(part, 0) + parameter.requires_grad
    assert {part for part, count in found.items() if count} == TRAINED[mode]
    assert all(found[part] == total[part] for part in TRAINED[mode])
    assert "other" not in total, "every parameter belongs to a part"


@pytest.mark.parametrize("mode", TRAINED)
def test_the_dry_run_counts_what_trains(trained, mode):
    plan = trained.plan(f"model.mode={mode}")
    sizes: dict[str, int] = {}
    for name, parameter in trained.ours(plan).model.named_parameters():
        if parameter.requires_grad:
            part = "LoRA" if is_lora(name) else plan.family.part_of(name)
            sizes[part] = sizes.get(part, 0) + parameter.numel()
    told = preview(plan)
    rows = {words[0]: words for line in told.splitlines() if (words := line.split())}
    assert {part: rows[part][2] for part in sizes} == {part: f"{size:,}" for part, size in sizes.items()}
    names = [name for name, _ in trained.ours(plan).model.named_parameters()]  # a tied head is not among them
    for part in set(sizes) - {"LoRA"}:
        line = next(line for line in told.splitlines() if line.startswith(f"trained {part}"))
        owned = [prefix for prefix in plan.family.parts[part] if any(name.startswith(prefix) for name in names)]
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
