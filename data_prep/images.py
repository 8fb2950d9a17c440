"""Image files: what they really are, whether they decode, and how they become RGB.

The name of a file says little (ImageNet's n02105855_2933.JPEG is a PNG), so the content decides. Pixels are those
of `Image.open(file).convert("RGB")`, which is what LLaVA trains on, with one exception: 16-bit greyscale is scaled
by 1/257, because Pillow's conversion saturates nearly every pixel to white.

EXIF orientation is not applied: LLaVA does not (llava/train/train.py opens and converts), so a model trained there
has seen photographs as they are stored. Transparency is dropped, animations give their first frame. A flipped bit
inside a JPEG's scan decodes to wrong pixels without an error; no check of the pixels can find that, checksums do.

Where the package simplejpeg is installed (`pip install vlm-classify[turbo]`) it decodes plain JPEGs: the same pixels
in a little less time. It is used only if it agrees with this machine's Pillow; what it cannot read, Pillow decodes.
"""

import warnings
from collections.abc import Callable
from functools import cache
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from configs.errors import DataError

# Pillow warns above this many pixels and refuses only above twice as many; we refuse here, from the file's header,
# before memory is taken. 89 megapixels of RGB are 268 MB.
MAX_PIXELS = 89_478_485
# LLaVA pads to a square of the longer side, so a strip of 1 x 60,000 pixels would become 3.6 gigapixels.
MAX_SIDE = 16_384

_FORMATS = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP", "gif": "GIF", "bmp": "BMP", "tif": "TIFF"}
_SIGNATURES = (
    (b"\xff\xd8\xff", "jpg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"BM", "bmp"),
    (b"II*\0", "tif"),
    (b"MM\0*", "tif"),
)
EXTENSIONS = tuple(_FORMATS)
# Markers of a JPEG. Skipped are Huffman tables, restart interval, APP0 to APP15 and comments.
_SCAN, _QUANTISATION, _FRAMES, _SKIPPED = 0xDA, 0xDB, (0xC0, 0xC2), {0xC4, 0xDD, 0xFE, *range(0xE0, 0xF0)}


class ImageError(DataError):
    """Bytes that are not an image we read; the text is the reason of a drop, as `kind: detail`."""


def true_extension(data: bytes) -> str:
    """`jpg`, `png`, `webp`, `gif`, `bmp` or `tif`, by the first bytes. Raises `ImageError` for anything else."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    for signature, extension in _SIGNATURES:
        if data.startswith(signature):
            return extension
    if not data:
        raise ImageError("empty file: 0 bytes")
    raise ImageError(f"not an image: it starts with {data[:12]!r}; known formats are {', '.join(EXTENSIONS)}")


def image_size(data: bytes) -> tuple[int, int]:
    """(width, height) in pixels, from the header alone. Raises `ImageError` as `check_image` does."""
    size = _jpeg_size(data)
    if size is not None:
        return size
    with _opened(data) as image:
        return image.size


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """The size of an ordinary JPEG within the limits, in a fifth of Pillow's time; None if Pillow must decide.

    A JPEG is segments of marker, length (2 bytes, big-endian, counting themselves) and content; its frame begins with
    precision, height, width. All are walked up to the scan, since Pillow refuses a file that is cut short before it.
    """
    if data[:2] != b"\xff\xd8":
        return None
    place, frame = 2, b""
    try:
        while (marker := data[place + 1]) != _SCAN:
            start, length = place + 4, (data[place + 2] << 8) + data[place + 3]
            known = marker in _SKIPPED or (marker in _FRAMES and not frame) or (marker == _QUANTISATION)
            if data[place] != 0xFF or not known or length < 2:
                return None
            if marker == _QUANTISATION and (length % 65 != 2 or any(b > 15 for b in data[start : place + length : 65])):
                return None  # tables of 16-bit values, or broken ones
            if marker in _FRAMES:
                frame = data[start : place + 2 + length]
            place += 2 + length
        scan_end = place + 2 + (data[place + 2] << 8) + data[place + 3]
        precision, *sides, components = frame[:6]
    except (IndexError, ValueError):
        return None
    height, width = (sides[0] << 8) + sides[1], (sides[2] << 8) + sides[3]
    if (
        data[place] != 0xFF
        or scan_end > len(data)
        or precision != 8
        or components not in (1, 3)
        or len(frame) != 6 + 3 * components
    ):
        return None
    within = 0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE and width * height <= MAX_PIXELS
    return (width, height) if within else None


def check_image(data: bytes) -> tuple[int, int]:
    """(width, height) of an image that was decoded to its last pixel.

    `Image.verify()` accepts a truncated JPEG, so the image is decoded fully. Raises `ImageError` for bytes that are no
    image, do not decode, or have more pixels than `MAX_PIXELS` or a side above `MAX_SIDE`.
    """
    return decode_rgb(data).size


def decode_rgb(data: bytes) -> Image.Image:
    """The image in mode RGB; see the head of this file for the exact rules. Raises `ImageError` as `check_image`."""
    return _decoded(data, lambda image: _turbo_decoded(data, image) or _to_rgb(image))


def decode_grey(data: bytes, size: tuple[int, int]) -> Image.Image:
    """The image in mode L; a JPEG no larger than `size` needs, which is fast. Raises `ImageError` as `check_image`."""

    def decode(image: Image.Image) -> Image.Image:
        if image.format != "JPEG" or image.mode not in ("RGB", "L"):
            return _to_rgb(image).convert("L")
        image.draft("L", size)
        return image.convert("L")

    return _decoded(data, decode)


def _decoded(data: bytes, decode: Callable[[Image.Image], Image.Image]) -> Image.Image:
    with _opened(data) as image:
        try:
            return decode(image)
        except ImageError:
            raise
        except Exception as error:  # decoders raise OSError, ValueError, SyntaxError, struct.error, ...
            raise ImageError(f"does not decode: {error}") from error


def _opened(data: bytes) -> Image.Image:
    """The image with its header read and nothing decoded."""
    extension = true_extension(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is the lower one
            image = Image.open(BytesIO(data), formats=[_FORMATS[extension]])
    except Image.DecompressionBombError as error:
        raise ImageError(f"too large: {error}") from error
    except Exception as error:  # as in _decoded
        raise ImageError(f"does not decode: {error}") from error
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ImageError(f"too large: {width} x {height} pixels; at most {MAX_PIXELS} are read")
    if max(width, height) > MAX_SIDE:
        raise ImageError(f"too large: {width} x {height} pixels; a side has at most {MAX_SIDE}")
    return image


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # I;16, I;16B, or I: 16-bit greyscale, and 32-bit TIFF
        grey = np.clip(np.asarray(image).astype(np.int64), 0, 65535)
        return Image.fromarray(((grey + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ImageError("unknown range: floating-point pixels have no agreed white")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Palette images with Transparency")  # it is dropped, as the head says
        return image.convert("RGB")


def _turbo_decoded(data: bytes, image: Image.Image) -> Image.Image | None:
    """The pixels of a plain 8-bit YCbCr or grey JPEG; None for anything else, and for what is not flawless."""
    turbo = _turbo() if data[:3] == b"\xff\xd8\xff" and image.mode in ("RGB", "L") else None
    if turbo is None:
        return None
    try:
        if turbo.decode_jpeg_header(data)[2] not in ("YCbCr", "Gray"):
            return None
        pixels = turbo.decode_jpeg(data)
    except ValueError:  # damaged, or of a kind that it does not read
        return None
    decoded = Image.fromarray(pixels)
    return decoded if decoded.size == image.size else None


@cache
def _turbo() -> Any:
    """The module simplejpeg, if it is installed and its pixels are those of this Pillow; else None."""
    try:
        import simplejpeg
    except ImportError:
        return None
    noise = np.random.default_rng(0).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    picture = Image.fromarray(noise).resize((67, 45))
    for options in ({"subsampling": 2}, {"subsampling": 0, "progressive": True}):
        buffer = BytesIO()
        picture.save(buffer, format="JPEG", **options)
        theirs = np.asarray(Image.open(buffer).convert("RGB"))
        if not np.array_equal(simplejpeg.decode_jpeg(buffer.getvalue()), theirs):
            return None
    return simplejpeg
