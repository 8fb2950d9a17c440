"""What in a model folder decides whether it can be loaded, as one hash; loads no torch.

Names, types and shapes of the weights count, not their values: two checkpoints of a run have the same contents. The
versions of the packages that read the folder count too.
"""

import hashlib
import importlib.metadata
from pathlib import Path

from configs.run_dir import ExportDir
from train.models.model_folder import WEIGHT_SUFFIXES, read_header

PACKAGES = ("torch", "transformers", "tokenizers", "safetensors")
_EXPORT = ExportDir(Path())
ABOUT = (_EXPORT.record.name, _EXPORT.provenance.name, "README.md")
"""Files about a model, which no program needs to load it."""


def contents(folder: Path) -> str:
    """Hex digest over all files in `folder` but those of `ABOUT`: the same for a copy of the folder.

    Raises `ConfigError` for a safetensors file that is damaged.
    """
    digest = hashlib.sha256(" ".join(map(importlib.metadata.version, PACKAGES)).encode())
    for file in sorted(file for file in folder.rglob("*") if file.is_file()):
        name = str(file.relative_to(folder))
        if name not in ABOUT:
            digest.update(f"\n{name} {_content(file)}".encode())
    return digest.hexdigest()


def _content(file: Path) -> str:
    if file.suffix == ".safetensors":
        tensors = read_header(file)
        lines = [f"{name} {tensors[name]['dtype']} {tensors[name]['shape']}" for name in sorted(tensors)]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()
    if file.suffix in WEIGHT_SUFFIXES:
        return f"{file.stat().st_size} bytes"
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
