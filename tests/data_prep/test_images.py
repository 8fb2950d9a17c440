import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile

from data_prep import images
from data_prep.images import MAX_PIXELS, ImageError, check_image, decode_rgb, image_size, true_extension


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def png_of_size(width: int, height: int) -> bytes:
    """A PNG that claims a size and has one byte of pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("kind", "extension"),
    [("JPEG", "jpg"), ("PNG", "png"), ("WEBP", "webp"), ("GIF", "gif"), ("BMP", "bmp"), ("TIFF", "tif")],
)
def test_the_format_is_known_by_content_and_the_size_by_decoding(picture, kind, extension):
    data = picture(kind=kind)
    assert true_extension(data) == extension
    assert check_image(data) == image_size(data) == (24, 16)


def test_the_size_of_a_jpeg_is_pillows_for_every_damaged_header(picture):
    rng = np.random.default_rng(0)
    variants = [picture(size=(67, 45), **options) for options in ({}, {"progressive": True}, {"mode": "L"})]
    agreed = 0
    for number in range(600):
        data = bytearray(variants[number % 3])
        data[int(rng.integers(2, 640))] ^= 1 << int(rng.integers(8))
        quick = images.jpeg_size(bytes(data))
        if quick is not None:
            assert quick == images.opened_image(bytes(data)).size
            agreed += 1
    assert agreed > 100


def test_a_jpeg_cut_inside_its_header_is_left_to_pillow(picture):
    data = picture(size=(64, 64))
    for length in range(3, data.index(b"\xff\xda") + 14, 3):
        assert images.jpeg_size(data[:length]) is None
    assert images.jpeg_size(data) == (64, 64)


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "LA", "RGB"])
def test_png_modes_become_the_rgb_that_pillow_makes(picture, mode):
    data = picture(mode=mode, kind="PNG")
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    image = decode_rgb(data)
    assert image.mode == "RGB"
    assert np.array_equal(np.asarray(image), expected)


def test_a_cmyk_jpeg_decodes_to_rgb_close_to_the_picture_it_was_made_of(picture):
    plain = np.asarray(decode_rgb(picture(kind="PNG"))).astype(int)
    cmyk = np.asarray(decode_rgb(picture(mode="CMYK", quality=95))).astype(int)
    assert abs(plain - cmyk).mean() < 12


@pytest.mark.filterwarnings("error")
def test_transparency_of_a_palette_is_dropped(picture):
    palette = Image.open(io.BytesIO(picture(kind="PNG"))).convert("P", palette=Image.Palette.ADAPTIVE)
    palette.info["transparency"] = bytes([0, 128])
    pixels, data = np.asarray(palette.convert("RGBA"))[..., :3], encoded(palette, "PNG")
    assert np.array_equal(np.asarray(decode_rgb(data)), pixels)


def test_16_bit_greyscale_is_scaled_and_not_saturated():
    values = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    pixels = np.asarray(decode_rgb(encoded(Image.fromarray(values), "PNG")))
    assert np.array_equal(pixels[..., 0], np.rint(values / 257).astype(np.uint8))
    assert pixels.min() == 0
    assert pixels.max() == 255
    assert (pixels == 255).mean() < 0.01


def test_a_16_bit_tiff_is_scaled_too():
    values = np.array([[0, 257, 65535]], dtype=np.uint16)
    assert np.asarray(decode_rgb(encoded(Image.fromarray(values), "TIFF")))[..., 1].tolist() == [[0, 1, 255]]


def test_floating_point_pixels_are_refused():
    with pytest.raises(ImageError, match="unknown range"):
        decode_rgb(encoded(Image.fromarray(np.zeros((4, 4), dtype=np.float32)), "TIFF"))


def test_the_orientation_in_exif_is_not_applied(picture):
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = picture(exif=exif)
    assert Image.open(io.BytesIO(turned)).getexif()[0x0112] == 6
    assert np.array_equal(np.asarray(decode_rgb(turned)), np.asarray(decode_rgb(picture())))


def test_corrupt_exif_does_not_matter(picture):
    data = picture(exif=b"Exif\0\0" + b"\xff" * 40)
    assert np.array_equal(np.asarray(decode_rgb(data)), np.asarray(decode_rgb(picture())))


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_an_animation_gives_its_first_frame(kind):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    data = encoded(
        frames[0], kind, save_all=True, append_images=frames[1:], **({"lossless": True} if kind == "WEBP" else {})
    )
    assert getattr(Image.open(io.BytesIO(data)), "n_frames", 1) == 2
    assert decode_rgb(data).getpixel((3, 3)) == (255, 0, 0)


def test_a_truncated_jpeg_is_refused_wherever_it_ends(picture):
    data = picture(size=(64, 64))
    for length in range(3, len(data) - 2, 37):
        with pytest.raises(ImageError, match="does not decode"):
            check_image(data[:length])


def test_a_jpeg_without_its_end_marker_is_refused(picture):
    with pytest.raises(ImageError, match="does not decode"):
        check_image(picture(size=(64, 64))[:-2])


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"", "empty file"), (b"<html><body>404</body></html>", "not an image"), (b"\x01\x02" * 50, "not an image")],
)
def test_what_is_no_image_is_refused_with_its_first_bytes(data, reason):
    with pytest.raises(ImageError, match=reason):
        check_image(data)


def test_random_bytes_under_a_jpeg_signature_are_refused():
    with pytest.raises(ImageError, match="does not decode"):
        check_image(b"\xff\xd8\xff" + np.random.default_rng(0).bytes(500))


@pytest.mark.parametrize("size", [(20_000, 20_000), (12_000, 10_000), (1, 60_000)])
def test_images_above_the_limits_are_refused_before_they_are_decoded(size, monkeypatch):
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: pytest.fail("the image is decoded"))
    data = png_of_size(*size)
    assert size[0] * size[1] > MAX_PIXELS or max(size) > 16_384
    tracemalloc.start()
    with pytest.raises(ImageError, match="too large"):
        check_image(data)
    assert tracemalloc.get_traced_memory()[1] < 1e6
    tracemalloc.stop()


@pytest.mark.parametrize("size", [(1, 1), (1, 5000)])
def test_the_smallest_and_the_thinnest_images_decode(size):
    assert check_image(encoded(Image.new("RGB", size, "red"), "JPEG")) == size
