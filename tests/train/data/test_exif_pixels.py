"""Training sees a photograph as `data.exif` says: as stored, or upright."""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageOps

from data_prep.orientation import UprightImage
from train.plan import make_plan

pytestmark = pytest.mark.slow


def test_the_pixels_of_an_upright_image_are_those_of_the_turned_picture(training_setup):
    plan = make_plan(training_setup.config("exif"), 1, "cpu")
    sample = plan.sources.sample(0)
    exif, buffers = Image.Exif(), [io.BytesIO() for _ in range(3)]
    exif[0x0112] = 6
    noise = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((60, 40)).save(buffers[0], "JPEG", exif=exif)
    stored = Image.open(buffers[0])
    stored.convert("RGB").save(buffers[1], "PNG")
    ImageOps.exif_transpose(stored).convert("RGB").save(buffers[2], "PNG")
    photo, as_stored, upright = (buffer.getvalue() for buffer in buffers)

    def pixels(image: bytes) -> np.ndarray:
        (array,) = plan.example_builder.build(replace(sample, image=image), 0).image.arrays.values()
        return np.asarray(array)

    assert np.array_equal(pixels(photo), pixels(as_stored))
    assert np.array_equal(pixels(UprightImage(photo)), pixels(upright))
    assert not np.array_equal(pixels(photo), pixels(UprightImage(photo)))
