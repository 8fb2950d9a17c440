"""Our pixels against transformers' PIL processors, by name."""

import numpy as np
import pytest
import torch
from PIL import Image
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

from configs.errors import ConfigError
from train.pixels import PixelProcessor, folder_pixels

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
    assert np.array_equal(ours(image), raw.astype(np.uint8)), "identical bytes before normalising"
    normalised = theirs(mode, 32)(image, return_tensors="pt")["pixel_values"][0]
    mine = ours.normalise(torch.from_numpy(ours(image))[None])[0]
    torch.testing.assert_close(mine, normalised, rtol=0, atol=1e-6)


def test_the_two_modes_differ_where_an_image_is_not_square():
    image = picture((97, 40))
    assert not np.array_equal(PixelProcessor(32, "pad")(image), PixelProcessor(32, "crop")(image))


def test_padding_has_the_mean_colour_of_clip():
    black = Image.new("RGB", (40, 10))
    assert PixelProcessor(40, "pad")(black)[:, 0, 0].tolist() == [122, 116, 104]


def test_the_folder_says_which_mode_its_training_had(workshop, tmp_path):
    base = workshop.root / "base"
    assert folder_pixels(base, 32, "export").mode == "pad"
    assert folder_pixels(base, 32, "crop").mode == "crop"
    assert folder_pixels(tmp_path, 32, "export").mode == "crop", "CLIP's own default where nothing is said"


def test_a_size_that_contradicts_the_tower_is_an_error(workshop):
    with pytest.raises(ConfigError, match="makes 32 px, the vision tower takes 64 px"):
        folder_pixels(workshop.root / "base", 64, "pad")


def test_an_unknown_mode_is_an_error():
    with pytest.raises(ConfigError, match="'stretch'; choose pad or crop"):
        PixelProcessor(32, "stretch")
