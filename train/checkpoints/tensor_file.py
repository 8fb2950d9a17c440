"""Tensors as a safetensors file, written in one pass together with its sha256.

safetensors' own writer copies every tensor into a byte string first, and hashing the result reads the file again. Here
the bytes go from the tensors to the hash and to the disk, so the checksum is that of the intended content. The GIL is
released during that time, so training continues.

Format (safetensors' README): 8 bytes, the header's length; the header, JSON of name to dtype, shape and offsets; data.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

BLOCK = 1 << 22  # bytes hashed and written at a time


def write_tensors(file: Path, tensors: Mapping[str, torch.Tensor]) -> str:
    """Write fp32 CPU tensors to `file`, force it to the disk, and return its sha256 in hex.

    Raises `OSError` if the disk is full or fails.
    """
    digest = hashlib.sha256()
    with file.open("wb", buffering=0) as stream:
        for block in _blocks(tensors):
            digest.update(block)
            written = 0
            while written < len(block):  # an unbuffered write may take less than it was given
                written += stream.write(block[written:])
        os.fsync(stream.fileno())
    return digest.hexdigest()


def _blocks(tensors: Mapping[str, torch.Tensor]) -> Iterator[memoryview]:
    """The file's bytes in pieces of at most `BLOCK`, apart from the header."""
    header, offset = {}, 0
    for name, tensor in tensors.items():
        assert tensor.dtype == torch.float32 and tensor.device.type == "cpu", f"{name} is {tensor.dtype}"
        end = offset + tensor.nbytes
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # data begin at a multiple of 8
    yield memoryview(len(text).to_bytes(8, "little") + text)
    for tensor in tensors.values():
        data = tensor.contiguous().flatten().view(torch.uint8).numpy().data
        for start in range(0, len(data), BLOCK):
            yield data[start : start + BLOCK]
