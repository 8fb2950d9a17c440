"""The text files of an export: what the model was trained with is what its folder says."""

import json
from pathlib import Path

import pytest

from train.export import _write_processor
from train.models.pixels import folder_pixels
from train.models.registry import trainable_family_of

TINY = Path("train/assets/tiny_llava")
NESTED, FLAT = "processor_config.json", "preprocessor_config.json"


@pytest.mark.parametrize("mode", ["pad", "crop"])
@pytest.mark.parametrize(
    "files",
    [
        {},
        {FLAT: {"do_normalize": False, "size": 40, "crop_size": 40, "resample": 2}},
        {FLAT: {"image_processor_type": "CLIPImageProcessorFast"}, NESTED: {"image_token": "<image>"}},
        {NESTED: {"image_processor": {"image_processor_type": "BlipImageProcessor", "size": {"shortest_edge": 50}}}},
        {FLAT: {"image_mean": [0, 0, 0]}, NESTED: {"image_processor": {"image_mean": [0.5, 0.5, 0.5]}}},
    ],
    ids=str,
)
def test_an_exports_processor_makes_the_pixels_of_the_training(files, mode, tmp_path):
    base, output = tmp_path / "base", tmp_path / "export"
    base.mkdir()
    output.mkdir()
    for name, content in files.items():
        (base / name).write_text(json.dumps(content))
    family = trainable_family_of(TINY)
    side = family.config.vision_config.image_size
    _write_processor(family, base, output, mode)
    exported = folder_pixels(output, side, "export")
    assert exported.mode == mode
    source = {**files, **({} if files else {FLAT: {}})}
    assert {file.name for file in output.iterdir()} == set(source)
    if files:  # training reads the base with its mode; the size of the base's processor is not its tower's here
        for content in files.values():
            content.get("image_processor", content).update({"size": side, "crop_size": side, "do_center_crop": True})
        for name, content in files.items():
            (base / name).write_text(json.dumps(content))
    trained = folder_pixels(base, side, mode)
    assert (trained.normalization, trained.resample) == (exported.normalization, exported.resample)
