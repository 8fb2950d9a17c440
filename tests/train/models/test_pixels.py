"""Our pixels against transformers' PIL processors, by name."""

import tarfile

import numpy as np
import pytest
import torch
from PIL import Image
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

from configs.errors import ConfigError, DataError
from data_prep.benchmarks.timing import made_jpeg
from train.benchmarks.pixels import compare, load_images
from train.models.pixels import PixelProcessor, folder_pixels

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
