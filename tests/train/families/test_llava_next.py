"""LLaVA-NeXT: what trains, the window of Mistral, the grid of tiles in an export, and what is refused."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil

from configs.errors import ConfigError
from configs.load import load_config
from configs.run import RunConfig
from data_prep.images import decode_rgb
from tests.train.families.conftest import items, picture
from tests.train.families.test_gradients import our_loss
from train.data.collate import collate
from train.exported_files import write_processor
from train.models.loss_module import LossModule
from train.models.registry import family_of
from train.toy.tiny_families import WINDOW

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.slow
def test_the_projector_is_the_mlp_and_the_vector_that_ends_a_row(family_of_case):
    trained = family_of_case("llava_next")
    loaded = trained.ours(trained.plan())
    parameters = {name: weight for name, weight in loaded.model.named_parameters() if weight.requires_grad}
    assert {".".join(name.split(".")[:2]) for name in parameters} == {
        "model.multi_modal_projector",
        "model.image_newline",
    }
    shown = [item for item in items(trained.case) if item.image is not None]
    module = LossModule(loaded.model, trained.plan().family).eval()
    our_loss(module, collate(trained.examples(shown), trained.plan().family)).backward()
    assert parameters["model.image_newline"].grad.abs().max() > 0


@pytest.mark.slow
def test_conversations_of_the_checks_are_longer_than_mistrals_window(family_of_case):
    trained = family_of_case("llava_next_mistral")
    examples = trained.examples(items(trained.case))
    assert max(len(example.input_ids) for example in examples) > WINDOW
    short = trained.plan(f"chat.max_length={WINDOW}", "train.batching=packed", f"train.token_budget={2 * WINDOW}",
                         "train.unreadable=skip", "train.micro_batch=auto")  # fmt: skip
    assert short.order.partitioner.batching == "packed"


@pytest.mark.slow
def test_an_export_has_the_models_grid_also_where_the_bases_processor_names_none(family_of_case, tmp_path):
    base = shutil.copytree(family_of_case("llava_next").folder, tmp_path / "base")
    files = [base / name for name in ("processor_config.json", "preprocessor_config.json")]
    (file,) = [file for file in files if file.is_file()]
    settings = json.loads(file.read_text())
    del settings.get("image_processor", settings)["image_grid_pinpoints"]
    for number, content in enumerate((settings, None)):
        file.unlink()
        if content is not None:
            file.write_text(json.dumps(content))
        family = family_of(base)
        export = shutil.copytree(base, tmp_path / f"export_{number}")
        write_processor(family, base, export, "export")
        image = decode_rgb(picture(1))
        theirs = LlavaNextImageProcessorPil.from_pretrained(export)(image, return_tensors="pt")["pixel_values"][0]
        ours = torch.from_numpy(family.image_processor()(image).arrays["pixels"])
        torch.testing.assert_close(family.normalized(ours, torch.float32), theirs, atol=1e-6, rtol=0)
        file.touch()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"vision_feature_select_strategy": "full"}, "vision_feature_select_strategy 'full'; only default works"),
        ({"vision_config": {"model_type": "siglip_vision_model"}}, "with the vision tower siglip_vision_model"),
        (
            {"text_config": {"layer_types": ["full_attention", "sliding_attention"]}},
            "mixes kinds of layers .layer_types: full_attention, sliding_attention",
        ),
    ],
)
def test_what_is_not_supported_is_refused_by_name(tmp_path, values, message):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llava_next", "vision_config": {}} | values))
    with pytest.raises(ConfigError, match=message):
        family_of(tmp_path)


@pytest.mark.parametrize(("name", "template"), [("vicuna", "llava"), ("mistral", "mistral")])
def test_a_preset_has_room_for_the_largest_image_and_the_models_template(name, template):
    config, _ = load_config(RunConfig, ROOT / f"configs/imagenet_llava_next_{name}.yaml")
    assert config.model.base == f"llava-hf/llava-v1.6-{name}-7b-hf"
    assert (config.chat.template, config.chat.image_mode, config.model.mode) == (template, "export", "projector")
    assert config.chat.max_length > 576 + 48 * 48 + 48
