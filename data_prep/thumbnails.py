"""Small JPEGs of images, to be put into a page."""

import io

from data_prep.images import decode_rgb

SIDE = 144  # pixels of the longer side
QUALITY = 72


def thumbnail(image: bytes, side: int = SIDE) -> bytes:
    """The image as a JPEG whose longer side has at most `side` pixels. Raises `ImageError` if it does not decode."""
    small = decode_rgb(image)
    small.thumbnail((side, side))
    buffer = io.BytesIO()
    small.save(buffer, format="JPEG", quality=QUALITY, optimize=True)
    return buffer.getvalue()
