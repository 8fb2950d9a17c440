"""LLaVA-NeXT's tiles under the settings of a folder, against transformers' own processor."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil

from configs.errors import ConfigError
from train.models.tiles import tile_processor

GRID = [[32, 64], [64, 32], [64, 64]]
USUAL = {
    "image_processor_type": "LlavaNextImageProcessor",
    "size": {"shortest_edge": 32},
    "crop_size": {"height": 32, "width": 32},
    "image_grid_pinpoints": GRID,
}


def tiles(folder, **changed):
    (folder / "preprocessor_config.json").write_text(json.dumps(USUAL | changed))
    return tile_processor(folder, 32, GRID)


@pytest.mark.parametrize(
    "changed",
    [
        {"size": 32, "crop_size": 32},
        {"size": {"height": 32, "width": 32}, "do_center_crop": False, "do_resize": False},
        {"resample": 2},
        {"resample": 0},
        {"do_normalize": False},
        {"do_rescale": False, "image_mean": 100, "image_std": 50},
        {"rescale_factor": 1 / 127.5},
    ],
    ids=str,
)
def test_tiles_are_transformers_tiles_under_every_setting(changed, tmp_path):
    rng = np.random.default_rng(1)
    processor = tiles(tmp_path, **changed)
    for width, height in ((50, 31), (20, 70)):
        image = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
        theirs = LlavaNextImageProcessorPil(**(USUAL | changed))(image, return_tensors="np")["pixel_values"][0]
        mine = processor.normalize(torch.from_numpy(processor(image)))
        torch.testing.assert_close(mine, torch.from_numpy(np.asarray(theirs)).float(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"size": {"shortest_edge": 40}}, "makes 40 px, the vision tower takes 32 px"),
        ({"crop_size": {"height": 32, "width": 40}}, "makes 40 px"),
        ({"image_grid_pinpoints": [[32, 64]]}, "image_grid_pinpoints"),
        ({"image_processor_type": "CLIPImageProcessor"}, "LlavaNextImageProcessor"),
    ],
    ids=str,
)
def test_settings_that_make_other_tiles_are_refused(changed, named, tmp_path):
    with pytest.raises(ConfigError, match=named):
        tiles(tmp_path, **changed)
