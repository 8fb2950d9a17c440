"""The index of a shard set: byte offsets of each sample's members, one row per sample."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from configs.errors import DataError
from configs.shard_dir import ShardDir

IMAGE_EXTENSIONS = ("", "jpg", "png", "webp", "gif", "bmp", "tif", "avif")  # index 0: the sample has no image
INDEX_DTYPE = np.dtype(
    [
        ("shard", "<u4"),
        ("extension", "u1"),  # index into IMAGE_EXTENSIONS
        ("label", "<i4"),  # -1: no label
        ("image_file", "<u4"),  # 0: the image is in the shard; n: in file n - 1 of the manifest's files
        ("image_offset", "<u8"),  # bytes from the start of the shard or file
        ("image_size", "<u4"),
        ("json_offset", "<u8"),
        ("json_size", "<u4"),
        ("width", "<u4"),  # pixels
        ("height", "<u4"),
        ("checksum", "<u4"),  # crc32 of the image's bytes followed by the json's
        ("id_hash", "<u8"),  # first 8 bytes of the id's sha256, little-endian
    ]
)


def id_hash(sample_id: str) -> int:
    """A 64-bit hash of an id, which includes the source's name: `index["id_hash"]`."""
    return int.from_bytes(hashlib.sha256(sample_id.encode()).digest()[:8], "little")


def image_hash(image: bytes) -> int:
    """XXH3 of an image's bytes, 64 bits, which takes a fiftieth of the time of sha256; 0 of none.

    Not crc32: a PNG ends each part with the part's crc32, and then only 16 bits of the file's crc32 differ
    between images of one size.
    """
    return xxhash.xxh3_64_intdigest(image) if image else 0


def open_index(folder: Path, samples: int) -> NDArray[Any]:
    """The index of a set of `samples`, mapped into memory so that all processes of a machine share it.

    Raises `DataError` if it is missing, damaged, or of another length.
    """
    path = ShardDir(folder).index
    remedy = "run data_prep.build again"
    try:
        index = np.load(path, mmap_mode="r" if samples else None, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}); {remedy}") from error
    if index.dtype != INDEX_DTYPE or index.shape != (samples,):
        raise DataError(f"{path} has shape {index.shape}; the manifest counts {samples} samples; {remedy}")
    return np.asarray(index)  # without memmap's own, slower indexing
