"""Files of a model on the hub: which a program reads, what they weigh, and whether the copies here are whole.

A copy is checked by its size, its sha256 (large files) or its git hash (small ones), both stated by the hub, and the
header of its safetensors. Sources: https://huggingface.co/docs/hub/api, git's `hash-object`, and the layout at
https://github.com/huggingface/safetensors#format.
"""

import fnmatch
import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.hub_files import MODEL_FILES, OLD_WEIGHTS, SAFETENSORS
from data_prep.checksum import sha256_of

BLOCK = 1 << 22
MOST_HEADER_BYTES = 100_000_000  # safetensors' own limit
SHA256 = re.compile(r"[0-9a-f]{64}")
SHA1 = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class HubModel:
    """A repository of the hub; `revision` None: its main branch."""

    name: str
    revision: str | None = None

    def __str__(self) -> str:
        """As in `openai/clip-vit-large-patch14@main`."""
        return f"{self.name}@{self.revision or 'main'}"


@dataclass(frozen=True)
class HubFile:
    """A file in a repository: its size in bytes, its sha256 (None: a small file), its git hash."""

    name: str
    size: int
    sha256: str | None
    git: str | None


def model_files(siblings: Iterable[Any]) -> list[HubFile]:
    """Those files that a program loads, as `HfApi.model_info(files_metadata=True).siblings` lists them, by name."""
    files = []
    for one in siblings:
        sha = one.lfs.sha256 if one.lfs is not None else None
        files.append(HubFile(one.rfilename, one.size or 0, sha, None if sha else one.blob_id))
    wanted = [file for file in files if any(fnmatch.fnmatch(file.name, pattern) for pattern in MODEL_FILES)]
    if not any(fnmatch.fnmatch(file.name, SAFETENSORS) for file in wanted):
        wanted += [file for file in files if file.name == OLD_WEIGHTS]
    return sorted(wanted, key=lambda file: file.name)


def fault_of(path: Path, file: HubFile) -> str | None:
    """What is wrong with the copy `path` of `file`; None if it is whole. Reads all of it."""
    if not path.is_file():
        return "is missing"
    size = path.stat().st_size
    if size != file.size:
        return f"has {size:,} bytes of {file.size:,}"
    if file.sha256 is not None and sha256_of(path) != file.sha256:
        return "has another sha256 than the hub states"
    if file.git is not None and git_hash_of(path) != file.git:
        return "has another git hash than the hub states"
    return header_fault(path) if fnmatch.fnmatch(file.name, SAFETENSORS) else None


def local_faults(snapshot: Path) -> Iterator[tuple[str, str]]:
    """Name and fault of every file of a cached `snapshot` that is not whole, without the hub.

    The hub's library names the copies, to which the snapshot's files are links, by their hash.
    """
    found = {str(path.relative_to(snapshot)): path for path in sorted(snapshot.rglob("*")) if not path.is_dir()}
    for name, path in found.items():
        if fault := _stored_fault(name, path):
            yield name, fault
    for name, path in found.items():
        if name.endswith(".safetensors.index.json") and path.is_file():
            here = Path(name).parent
            yield from ((str(here / part), "is missing") for part in _parts(path) if str(here / part) not in found)


def _stored_fault(name: str, path: Path) -> str | None:
    if not path.is_file():
        return "is missing"
    stored = path.resolve().name
    if SHA256.fullmatch(stored) and sha256_of(path) != stored:
        return "has another sha256 than it was stored under"
    if SHA1.fullmatch(stored) and git_hash_of(path) != stored:
        return "has another git hash than it was stored under"
    return header_fault(path) if fnmatch.fnmatch(name, SAFETENSORS) else None


def _parts(index: Path) -> list[str]:
    """Files of weights that an index names."""
    try:
        names = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
    except (ValueError, KeyError, AttributeError, TypeError):
        return []
    return sorted({str(name) for name in names})


def header_fault(path: Path) -> str | None:
    """What is wrong with the header of a safetensors file, or with its size by that header; None if nothing is."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(MOST_HEADER_BYTES, size - 8):
            return "has no header of safetensors"
        try:
            tensors = json.loads(file.read(length))
            ends = [tensor["data_offsets"][1] for name, tensor in tensors.items() if name != "__metadata__"]
        except (ValueError, KeyError, IndexError, TypeError, AttributeError):
            return "has a damaged header"
    expected = 8 + length + max(ends, default=0)
    return None if size == expected else f"has {size:,} bytes, {expected:,} by its header"


def git_hash_of(path: Path) -> str:
    """The hash that git gives a file: sha1 of `blob SIZE`, a zero byte and the content."""
    digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()
