"""JPEGs through simplejpeg: never other pixels, never another verdict than Pillow's."""

import io

import numpy as np
import pytest
from PIL import Image

from data_prep import images
from data_prep.images import ImageError, decode_rgb

KINDS = [
    {"subsampling": 0},
    {"subsampling": 1},
    {"subsampling": 2},
    {"progressive": True},
    {"restart_marker_blocks": 3},
    {"keep_rgb": True},
    {"mode": "L"},
    {"mode": "CMYK"},
]


@pytest.fixture(autouse=True)
def _turbo() -> None:
    pytest.importorskip("simplejpeg", reason="simplejpeg is not installed")
    images._turbo.cache_clear()
    assert images._turbo() is not None, "it agrees with this Pillow, or these tests compare Pillow with itself"


def verdict(data: bytes, monkeypatch: pytest.MonkeyPatch, *, turbo: bool) -> np.ndarray | str:
    with monkeypatch.context() as patch:
        if not turbo:
            patch.setattr(images, "_turbo", lambda: None)
        try:
            return np.asarray(decode_rgb(data))
        except ImageError as error:
            return str(error).partition(" <_io")[0]  # what follows is an address


@pytest.mark.parametrize("options", KINDS, ids=str)
def test_every_kind_of_jpeg_gives_pillows_pixels(picture, monkeypatch, options):
    data = picture(size=(67, 45), **options)
    assert np.array_equal(verdict(data, monkeypatch, turbo=True), verdict(data, monkeypatch, turbo=False))


def test_two_pictures_in_one_file_give_the_first(picture, monkeypatch):
    first, second = (Image.open(io.BytesIO(picture(seed))) for seed in (0, 1))
    buffer = io.BytesIO()
    first.save(buffer, format="MPO", save_all=True, append_images=[second])
    ours = verdict(buffer.getvalue(), monkeypatch, turbo=True)
    assert np.array_equal(ours, verdict(buffer.getvalue(), monkeypatch, turbo=False))


@pytest.mark.filterwarnings("ignore")
def test_damaged_jpegs_get_the_same_verdict(picture, monkeypatch):
    rng = np.random.default_rng(0)
    seen = {True: 0, False: 0}
    for number in range(300):
        data = bytearray(picture(size=(67, 45), **KINDS[number % 4]))
        data[int(rng.integers(2, len(data)))] ^= 1 << int(rng.integers(8))
        if number % 5 == 0:
            del data[int(rng.integers(4, len(data))) :]
        ours, theirs = (verdict(bytes(data), monkeypatch, turbo=turbo) for turbo in (True, False))
        assert type(ours) is type(theirs)
        assert np.array_equal(ours, theirs)
        seen[isinstance(ours, str)] += 1
    assert min(seen.values()) > 30, "some decode and some do not, or the test shows little"


def test_a_decoder_with_other_pixels_is_not_used(picture, monkeypatch):
    import simplejpeg

    expected = verdict(picture(), monkeypatch, turbo=False)
    monkeypatch.setattr(simplejpeg, "decode_jpeg", lambda data: np.zeros((45, 67, 3), dtype=np.uint8))
    images._turbo.cache_clear()
    assert images._turbo() is None
    assert np.array_equal(np.asarray(decode_rgb(picture())), expected)
    images._turbo.cache_clear()
