"""Our pixels against transformers' PIL processors, by name."""

import json
import tarfile
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

from configs.errors import ConfigError, DataError
from data_prep.benchmarks.timing import made_jpeg
from train.benchmarks.pixel_rates import compare, load_images
from train.models.pixels import PixelProcessor, folder_pixels, squashed_pixels

SIZES = [(64, 64), (97, 40), (40, 97), (33, 500), (1, 1), (336, 335)]


def picture(size: tuple[int, int]) -> Image.Image:
    rng = np.random.default_rng(size[0] * 1000 + size[1])
    return Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def theirs(mode: str, side: int):
    sizes = {"size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}}
    return LlavaImageProcessorPil(do_pad=True, **sizes) if mode == "pad" else CLIPImageProcessorPil(**sizes)


@pytest.mark.parametrize("mode", ["pad", "crop"])
@pytest.mark.parametrize("size", SIZES)
def test_pixels_are_transformers_pixels(mode, size):
    image, ours = picture(size), PixelProcessor(32, mode)
    raw = theirs(mode, 32)(image, do_normalize=False, do_rescale=False, return_tensors="np")["pixel_values"][0]
    assert np.array_equal(ours(image), raw.astype(np.uint8)), "identical bytes before normalizing"
    normalized = theirs(mode, 32)(image, return_tensors="pt")["pixel_values"][0]
    mine = ours.normalize(torch.from_numpy(ours(image))[None])[0]
    torch.testing.assert_close(mine, normalized, rtol=0, atol=1e-6)


@pytest.mark.parametrize("side", [32, 224])
@pytest.mark.parametrize("hard_edges", [False, True])
@pytest.mark.parametrize("size", [*SIZES, (180, 175), (175, 180)])
def test_fast_pixels_are_within_2_of_255(size, hard_edges, side):
    pixels = np.asarray(picture(size))
    image = Image.fromarray((pixels > 127).astype(np.uint8) * 255 if hard_edges else pixels)
    exact, fast = PixelProcessor(side)(image), PixelProcessor(side, fast=True)(image)
    assert fast.shape == exact.shape == (3, side, side)
    assert fast.flags.c_contiguous
    assert np.abs(fast.astype(int) - exact).max() <= 2


def test_a_fast_crop_is_the_exact_one():
    image = picture((97, 40))
    assert np.array_equal(PixelProcessor(32, "crop")(image), PixelProcessor(32, "crop", fast=True)(image))


def test_fast_is_chosen_by_name_and_exact_is_the_default(training_setup):
    base = training_setup.root / "base"
    assert not folder_pixels(base, 32, "pad").fast
    assert folder_pixels(base, 32, "pad", "fast").fast


def test_the_two_modes_differ_where_an_image_is_not_square():
    image = picture((97, 40))
    assert not np.array_equal(PixelProcessor(32, "pad")(image), PixelProcessor(32, "crop")(image))


def test_padding_has_the_mean_colour_of_clip():
    black = Image.new("RGB", (40, 10))
    assert PixelProcessor(40, "pad")(black)[:, 0, 0].tolist() == [122, 116, 104]


def test_the_folder_says_which_mode_its_training_had(training_setup, tmp_path):
    base = training_setup.root / "base"
    assert folder_pixels(base, 32, "export").mode == "pad"
    assert folder_pixels(base, 32, "crop").mode == "crop"
    assert folder_pixels(tmp_path, 32, "export").mode == "crop", "CLIP's own default where nothing is said"


def test_a_size_that_contradicts_the_tower_is_an_error(training_setup):
    with pytest.raises(ConfigError, match="makes 32 px, the vision tower takes 64 px"):
        folder_pixels(training_setup.root / "base", 64, "pad")


def test_an_unknown_mode_is_an_error():
    with pytest.raises(ConfigError, match="'stretch'; choose pad or crop"):
        PixelProcessor(32, "stretch")


def test_the_benchmark_compares_both_modes_with_transformers():
    figures = compare([made_jpeg(seed) for seed in (0, 1)], size=64, rounds=1)
    assert figures["exact_largest_difference"] == 0
    assert 0 < figures["fast_largest_difference"] <= 2
    assert figures["exact_ratio"] > 0


def test_the_benchmark_reads_jpegs_from_a_folder_or_a_tar(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.JPEG").write_bytes(made_jpeg(1))
    (tmp_path / "a" / "notes.txt").write_text("no image")
    with tarfile.open(tmp_path / "images.tar", "w") as tar:
        tar.add(tmp_path / "a")
    assert load_images(tmp_path / "a", 5) == load_images(tmp_path / "images.tar", 5) == [made_jpeg(1)]
    (tmp_path / "a" / "1.JPEG").unlink()
    with pytest.raises(DataError, match="has no JPEG; give --images"):
        load_images(tmp_path / "a", 5)


PROCESSORS = {
    "CLIPImageProcessor": CLIPImageProcessorPil,
    "LlavaImageProcessor": LlavaImageProcessorPil,
    "BlipImageProcessor": BlipImageProcessorPil,
}
USUAL = {"size": {"shortest_edge": 24}, "crop_size": {"height": 24, "width": 24}}
HONOURED = [
    {"size": {"height": 24, "width": 24}, "do_center_crop": False},
    {"size": 24, "crop_size": 24},
    {"size": [24, 24]},
    {"size": {"shortest_edge": 37}},
    {"size": {"shortest_edge": 15}},
    {"size": {"height": 30, "width": 20}},
    {"size": 24, "default_to_square": True, "do_center_crop": None},
    {"do_resize": False},
    {"do_pad": True, "do_normalize": False},
    {"do_pad": True, "do_center_crop": False},
    {"do_pad": True, "size": {"shortest_edge": 30}, "image_mean": [0.1, 0.9, 0.3]},
    {"do_pad": True, "do_resize": False},
    {"do_rescale": False, "image_mean": [120, 110, 100], "image_std": [60, 60, 60]},
    {"rescale_factor": 1 / 127.5, "image_mean": [1, 1, 1], "image_std": [1, 1, 1]},
    {"do_normalize": False, "do_rescale": None},
    {"image_mean": 0.5, "image_std": 0.5},
    {"do_convert_rgb": False},
    *({"resample": number} for number in range(6)),
]


def write_settings(folder, **settings):
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return folder


@pytest.mark.parametrize("kind", PROCESSORS)
@pytest.mark.parametrize("changed", HONOURED, ids=str)
def test_every_setting_of_a_folder_is_honoured_as_transformers_does(kind, changed, tmp_path):
    settings = {"image_processor_type": kind, **USUAL, **changed}
    ours = squashed_pixels if kind.startswith("Blip") else partial(folder_pixels, mode="export")
    for size in [(61, 40), (17, 33)]:
        image = picture(size)
        theirs = PROCESSORS[kind](**settings)(image, return_tensors="np")["pixel_values"][0]
        if theirs.shape != (3, 24, 24):  # padded by LLaVA's class only
            with pytest.raises(ConfigError, match="the vision tower takes 24 px"):
                ours(write_settings(tmp_path, **settings), 24)
            continue
        processor = ours(write_settings(tmp_path, **settings), 24)
        mine = processor.normalize(torch.from_numpy(processor(image))[None])[0]
        torch.testing.assert_close(mine, torch.from_numpy(theirs).float(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"size": {"shortest_edge": 24, "longest_edge": 99}}, "size is"),
        ({"size": "24"}, "size is '24'"),
        ({"size": {"shortest_edge": -1}}, "above 0"),
        ({"size": None}, "size is None"),
        ({"crop_size": {"height": 20, "width": 24}}, "makes 20 x 24 px"),
        ({"do_center_crop": False}, "images of different shapes"),
        ({"image_mean": [0.5]}, r"image_mean is \[0.5\]; it must be a list of three"),
        ({"image_std": [0, 1, 1]}, "image_std"),
        ({"do_pad": True, "image_mean": [120, 110, 100]}, "between 0 and 1"),
        ({"resample": "bicubic"}, "resample is 'bicubic'; it must be one of 0"),
        ({"rescale_factor": None}, "rescale_factor is None"),
        ({"do_pad": True, "pad_size": {"height": 30, "width": 30}}, "pad_size"),
        ({"do_resize": "no"}, "do_resize is 'no'"),
        ({"image_processor_type": "ViTImageProcessor"}, "supported: CLIPImageProcessor, SiglipImageProcessor, "),
    ],
    ids=str,
)
def test_a_setting_that_is_not_honoured_is_refused_by_name(changed, named, tmp_path):
    settings = {"image_processor_type": "LlavaImageProcessor", **USUAL, **changed}
    with pytest.raises(ConfigError, match=named) as found:
        folder_pixels(write_settings(tmp_path, **settings), 24, "export")
    assert str(tmp_path) in str(found.value)


def test_a_processor_file_that_is_no_json_is_named(tmp_path):
    (tmp_path / "preprocessor_config.json").write_text('{"size":')
    with pytest.raises(ConfigError, match="is not valid JSON"):
        folder_pixels(tmp_path, 24, "export")


def test_the_processors_own_file_comes_first_as_in_transformers(tmp_path):
    write_settings(tmp_path, **USUAL, image_mean=[0.5] * 3)
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": {**USUAL, "image_mean": [0.1] * 3}}))
    assert folder_pixels(tmp_path, 24, "export").normalization.mean == (0.1, 0.1, 0.1)


def test_padding_is_llavas_own_and_clips_class_does_not_pad(tmp_path):
    assert folder_pixels(write_settings(tmp_path, **USUAL, do_pad=True), 24, "export").mode == "pad"
    write_settings(tmp_path, **USUAL, do_pad=True, image_processor_type="CLIPImageProcessor")
    assert folder_pixels(tmp_path, 24, "export").mode == "crop"


def test_a_mode_set_by_name_keeps_the_folders_filter_and_normalization(tmp_path):
    write_settings(tmp_path, **USUAL, resample=2, do_normalize=False)
    processor, image = folder_pixels(tmp_path, 24, "pad", "fast"), picture((97, 40))
    settings = {**USUAL, "do_pad": True, "resample": 2, "do_normalize": False}
    theirs = LlavaImageProcessorPil(**settings)(image, return_tensors="pt")["pixel_values"][0]
    mine = processor.normalize(torch.from_numpy(processor(image))[None])[0]
    torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-6)
