"""A fingerprint of a model folder's weights, cheap enough to take at every start.

Fourteen gigabytes take long to hash, so each tensor contributes its name, type, shape and 16 evenly spread blocks of
256 bytes: two models that were trained differently differ almost everywhere and cannot share it. It answers "is this
the base this adapter was made for?", not "was a byte damaged?" (checkpoints have their own sha256).
"""

import hashlib
import struct
from pathlib import Path

from train.models.model_folder import read_header, weight_files

BLOCKS = 16
BLOCK_BYTES = 256


def model_identity(folder: Path) -> str:
    """Hex digest over the sampled weights of all `*.safetensors` in `folder`.

    Raises `ConfigError` if there are none, or one is missing or damaged (`train.models.model_folder`).
    """
    tensors: dict[str, str] = {}
    for file in weight_files(folder):
        tensors |= _sampled_tensors(file)
    lines = "\n".join(f"{name} {tensors[name]}" for name in sorted(tensors))
    return hashlib.sha256(lines.encode()).hexdigest()


def _sampled_tensors(file: Path) -> dict[str, str]:
    """Tensor name to a digest of its type, shape and sampled bytes; independent of how tensors are split into files."""
    digests: dict[str, str] = {}
    header = read_header(file)
    with file.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        for name, entry in header.items():
            begin, end = entry["data_offsets"]
            digest = hashlib.sha256(f"{entry['dtype']} {entry['shape']}".encode())
            for block in range(BLOCKS):
                start = begin + (end - begin) * block // BLOCKS
                stream.seek(8 + length + start)
                digest.update(stream.read(min(BLOCK_BYTES, end - start)))
            digests[name] = digest.hexdigest()
    return digests
