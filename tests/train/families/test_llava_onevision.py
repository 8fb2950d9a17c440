"""LLaVA-OneVision: scaled-down images, answers behind the prompt they are generated behind, and what is refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import LlavaOnevisionImageProcessorPil

from configs.errors import ConfigError
from configs.load import load_config
from configs.run import RunConfig
from data_prep.images import decode_rgb
from tests.train.families.conftest import items, picture
from train.exported_files import write_processor
from train.models.registry import family_of
from train.models.tiles import tile_tokens
from train.toy.tiny_onevision import GRID, PATCH, SIDE

ROOT = Path(__file__).resolve().parents[3]
PUBLISHED = [[384 * rows, 384 * columns] for rows in range(1, 7) for columns in range(1, 7)]


@pytest.mark.slow
def test_the_images_of_the_checks_include_scaled_and_unscaled_ones(family_of_case):
    family = family_of_case("llava_onevision").plan().family
    shown = [decode_rgb(item.image) for item in items(family_of_case("llava_onevision").case) if item.image]
    sizes = [(image.height, image.width) for image in shown]
    unscaled = [tile_tokens(size, GRID, SIDE, PATCH) == family.image_tokens(size) for size in sizes]
    assert set(unscaled) == {True, False}


@pytest.mark.slow
@pytest.mark.parametrize("stated", [{"crop_size": None}, {"crop_size": {"height": SIDE, "width": SIDE}}], ids=str)
def test_a_processor_with_and_without_crop_size_makes_transformers_tiles(family_of_case, tmp_path, stated):
    base = shutil.copytree(family_of_case("llava_onevision").folder, tmp_path / "base")
    file = base / "preprocessor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | stated))
    family, image = family_of(base), decode_rgb(picture(1))
    theirs = LlavaOnevisionImageProcessorPil.from_pretrained(base)(image, return_tensors="pt")["pixel_values"][0]
    ours = torch.from_numpy(family.image_processor()(image).arrays["pixels"])
    torch.testing.assert_close(family.normalized(ours, torch.float32), theirs, atol=1e-6, rtol=0)


@pytest.mark.slow
def test_an_export_has_the_models_grid_also_where_the_base_has_no_processor(family_of_case, tmp_path):
    base = shutil.copytree(family_of_case("llava_onevision").folder, tmp_path / "base")
    (base / "preprocessor_config.json").unlink()
    family, export = family_of(base), shutil.copytree(base, tmp_path / "export")
    write_processor(family, base, export, "export")
    image = Image.fromarray(np.full((40, 90, 3), 200, dtype=np.uint8))
    theirs = LlavaOnevisionImageProcessorPil.from_pretrained(export)(image, return_tensors="pt")["pixel_values"][0]
    ours = torch.from_numpy(family.image_processor()(image).arrays["pixels"])
    torch.testing.assert_close(family.normalized(ours, torch.float32), theirs, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"vision_feature_select_strategy": "default"}, "vision_feature_select_strategy 'default'; only full works"),
        ({"vision_aspect_ratio": "pad"}, "vision_aspect_ratio 'pad'; only anyres_max_"),
        ({"vision_config": {"model_type": "clip_vision_model"}}, "with the vision tower clip_vision_model"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(tmp_path, values, message):
    siglip = {"vision_config": {"model_type": "siglip_vision_model"}}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llava_onevision"} | siglip | values))
    with pytest.raises(ConfigError, match=message):
        family_of(tmp_path)


def test_the_preset_has_room_for_the_largest_image():
    config, _ = load_config(RunConfig, ROOT / "configs/imagenet_llava_onevision.yaml")
    sizes = [(height, width) for height in range(40, 2400, 60) for width in range(40, 2400, 60)]
    most = max(tile_tokens(size, PUBLISHED, 384, 14, 9) for size in sizes)
    assert 8000 < most < config.chat.max_length - 256
