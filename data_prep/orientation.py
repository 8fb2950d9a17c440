"""EXIF orientation: how a photograph is to be turned before it is shown, and bytes that say that they want it.

Cameras store the sensor's rows and note how the camera was held (EXIF tag 0x0112, values 1 to 8; 1 is normal). LLaVA
and the paper read images as they are stored. `data.exif: apply` turns them; then a shard set hands out its images as
`UprightImage`, so that everything that decodes one of them turns it, in training and in every evaluation.
"""

from PIL import Image

TAG = 0x0112
NORMAL = 1
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class UprightImage(bytes):
    """Bytes of an image file that is turned as its EXIF orientation says when it is decoded."""

    __slots__ = ()


def orientation_of(image: Image.Image) -> int:
    """1 to 8; 1 where it is normal, absent or unreadable, and for TIFF, which Pillow itself turns when it decodes."""
    if image.format == "TIFF" or not _may_have_exif(image):
        return NORMAL
    try:
        found = image.getexif().get(TAG, NORMAL)
    except Exception:  # damaged EXIF: struct.error, SyntaxError, OSError, ...
        return NORMAL
    return found if isinstance(found, int) and found in _TURNS else NORMAL


def _may_have_exif(image: Image.Image) -> bool:
    return any(key in image.info for key in ("exif", "Raw profile type exif", "Raw profile type APP1", "xmp")) or (
        image.format in ("PNG", "WEBP") and "XML:com.adobe.xmp" in image.info
    )


def turned(image: Image.Image, orientation: int) -> Image.Image:
    """`image` as it is to be shown, for an orientation of 1 to 8."""
    return image.transpose(_TURNS[orientation]) if orientation in _TURNS else image


def turned_size(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """(width, height) after turning."""
    return (size[1], size[0]) if orientation >= 5 else size
