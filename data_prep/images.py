"""Image files: what they really are, whether they decode, and how they become RGB.

The name of a file says little (ImageNet's n02105855_2933.JPEG is a PNG), so the content decides. Pixels are those
of `Image.open(file).convert("RGB")`, which is what LLaVA trains on, with one exception: 16-bit greyscale is scaled
by 1/257 (by what the file states for 12 bits), because Pillow's conversion saturates nearly every pixel to white.

EXIF orientation is not applied: LLaVA does not (llava/train/train.py opens and converts), so a model trained there
has seen photographs as they are stored; `UprightImage` marks bytes for which it is (`data_prep.orientation`).
Transparency is dropped, animations give their first frame; `data_prep.image_notes` counts such images. A flipped bit
inside a JPEG's scan decodes to wrong pixels without an error; no check of the pixels can find that, checksums do.

Where the package simplejpeg is installed (`pip install vlm-classify[turbo]`) it decodes plain JPEGs: the same pixels
in a little less time. It is used only if it agrees with this machine's Pillow; what it cannot read, Pillow decodes.
"""

import warnings
from collections.abc import Callable
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, features

from configs.errors import DataError
from data_prep.orientation import NORMAL, UprightImage, orientation_of, turned, turned_size

# Pillow warns above this many pixels and refuses only above twice as many; we refuse here, from the file's header,
# before memory is taken. 89 megapixels of RGB are 268 MB.
MAX_PIXELS = 89_478_485
# LLaVA pads to a square of the longer side, so a strip of 1 x 60,000 pixels would become 3.6 gigapixels.
MAX_SIDE = 16_384

_FORMATS = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP", "gif": "GIF", "bmp": "BMP", "tif": "TIFF", "avif": "AVIF"}
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
_BRANDS = {b"avif": "avif", b"avis": "avif"}
_NOT_READ = (
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\xffO\xffQ", "JPEG 2000"),
    (b"8BPS", "Photoshop"),
    (b"<svg", "SVG"),
    (b"%PDF", "PDF"),
    (b"\0\0\x01\0", "icon"),
    (b"SIMPLE  =", "FITS"),
)
# Markers of a JPEG. Skipped are Huffman tables, restart interval, APP0 to APP15 and comments.
_SCAN, _QUANTISATION, _FRAMES, _SKIPPED = 0xDA, 0xDB, (0xC0, 0xC2), {0xC4, 0xDD, 0xFE, *range(0xE0, 0xF0)}


class ImageError(DataError):
    """Bytes that are not an image we read; the text is the reason of a drop, as `kind: detail`."""


def true_extension(data: bytes) -> str:
    """`jpg`, `png`, `webp`, `gif`, `bmp`, `tif` or `avif`, by the first bytes. Raises `ImageError` for others."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    for signature, extension in _SIGNATURES:
        if data.startswith(signature):
            return extension
    if data[4:8] == b"ftyp":
        brand = bytes(data[8:12])
        if brand not in _BRANDS:
            raise ImageError(f"format not read: {_media_kind(brand)}; convert it to JPEG or PNG")
        if not features.check("avif"):
            raise ImageError("format not read: AVIF, which this Pillow was built without; convert it to JPEG or PNG")
        return _BRANDS[brand]
    if not data:
        raise ImageError("empty file: 0 bytes")
    for signature, name in _NOT_READ:
        if data.startswith(signature):
            raise ImageError(f"format not read: {name}; convert it to JPEG or PNG")
    if data.startswith(b"version https://git-lfs.github.com/spec"):
        raise ImageError("git-lfs pointer: the image is not there; run git lfs pull in its repository")
    raise ImageError(f"not an image: it starts with {data[:12]!r}; known formats are {', '.join(EXTENSIONS)}")


def file_fault(file: Path) -> str | None:
    """Why a file is no image that is read, by its first bytes; None if it may be one. Its name does not matter."""
    try:
        with file.open("rb") as stream:
            true_extension(stream.read(64))
    except ImageError as error:
        return str(error)
    except (OSError, ValueError):
        return "missing file: it cannot be opened"
    return None


def _media_kind(brand: bytes) -> str:
    """What a file in the form of MPEG-4 is, by its brand."""
    if brand in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1"):
        return "HEIC"
    return f"a video or other media file ({brand.decode('latin-1')!r})"


def image_size(data: bytes) -> tuple[int, int]:
    """(width, height) in pixels, from the header alone. Raises `ImageError` as `check_image` does."""
    upright = isinstance(data, UprightImage)
    size = None if upright else jpeg_size(data)
    if size is not None:
        return size
    with opened_image(data) as image:
        return turned_size(image.size, orientation_of(image)) if upright else image.size


def jpeg_size(data: bytes) -> tuple[int, int] | None:
    """(width, height) of an ordinary JPEG; None if Pillow must decide (`jpeg_header`)."""
    header = jpeg_header(data)
    return None if header is None else header[:2]


def jpeg_header(data: bytes) -> tuple[int, int, int] | None:
    """Width, height and length in bytes of what precedes the scan, in a fifth of Pillow's time.

    None if Pillow must decide: this is no ordinary JPEG within the limits.

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
    return (width, height, place) if within else None


def read_image_file(file: Path) -> bytes:
    """The bytes of an image file that decodes. Raises `DataError` that names the file if it does not."""
    try:
        data = file.read_bytes()
        check_image(data)
    except OSError as error:
        raise DataError(f"cannot read the image {file}: {error.strerror}") from error
    except ImageError as error:
        raise DataError(f"the image {file}: {error}") from error
    return data


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
    with opened_image(data) as image:
        orientation = orientation_of(image) if isinstance(data, UprightImage) else NORMAL
        try:
            return turned(decode(image), orientation)
        except ImageError:
            raise
        except Exception as error:  # decoders raise OSError, ValueError, SyntaxError, struct.error, ...
            raise ImageError(f"does not decode: {error}") from error


def opened_image(data: bytes) -> Image.Image:
    """The image with its header read and nothing decoded. Raises `ImageError` as `check_image` does."""
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
    if image.mode.startswith("I"):  # I;16, I;16B, or I: greyscale of 12 and 16 bits, and 32-bit TIFF
        white, grey = white_of(image), np.asarray(image).astype(np.int64)
        if grey.min() < 0 or grey.max() > white:
            raise ImageError(
                f"unknown range: pixels from {grey.min()} to {grey.max()}; grey of {white.bit_length()} bits has 0 to"
                f" {white}: convert it to 8 or 16 bits"
            )
        return Image.fromarray(((grey * 255 + white // 2) // white).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ImageError("unknown range: floating-point pixels have no agreed white")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Palette images with Transparency")  # it is dropped, as the head says
        return image.convert("RGB")


def white_of(image: Image.Image) -> int:
    """The largest value of an image of mode I or I;16: 4095 in a TIFF that states 12 bits, else 65535."""
    bits = getattr(image, "tag_v2", {}).get(258, (16,))  # BitsPerSample
    return (1 << bits[0]) - 1 if bits[0] in (10, 12, 14) else 65535


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
