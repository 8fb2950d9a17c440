"""Checks that a shard set is undamaged: `python -m data_prep.verify shards/imagenet [--full]`

Quick: manifest, index, and the size of every shard; seconds for a thousand shards. Full: sha256 of every shard,
every member's header and checksum, and every image decoded. Each finding names the shard, the sample and the byte.
Exits with 0 if the set is undamaged, 1 if it is damaged, 2 if there is no set.
"""

import hashlib
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from configs.command_line import at_least, command_parser, exit_on_user_error
from configs.data import DataConfig
from configs.errors import DataError, UserError
from configs.locations import as_url
from configs.shard_dir import ShardDir
from configs.words import counted
from data_prep import ustar
from data_prep.images import check_image
from data_prep.manifest import Manifest, read_manifest
from data_prep.processes import parallel_map
from data_prep.progress import progress_bar
from data_prep.shard_cache import ShardCache
from data_prep.shard_index import IMAGE_EXTENSIONS
from data_prep.shards import ShardSet, wrong_sizes

REMEDY = "delete the damaged shards and run data_prep.build again: it writes the same bytes"
MAX_FINDINGS = 20  # listed per shard
READ_BYTES = 1 << 20


def main(argv: Sequence[str] | None = None) -> None:
    """Check one shard set and print the findings."""
    parser = command_parser(__doc__)
    parser.add_argument("folder", type=Path, help="folder of the set, such as shards/imagenet")
    parser.add_argument("--full", action="store_true", help="also sha256, members and pixels")
    parser.add_argument("--processes", type=at_least(1), default=1, metavar="N", help="processes of a full check")
    parser.add_argument("--cache-dir", type=Path, default=Path(DataConfig().cache_dir), help="for tars behind URLs")
    arguments = parser.parse_args(argv)
    try:
        if as_url(arguments.folder) is not None:
            raise DataError(
                f"{as_url(arguments.folder)} is a URL; check it where it is stored;"
                " shards are checked when they are fetched"
            )
        manifest = read_manifest(arguments.folder)
        cache = ShardCache.of(DataConfig(cache_dir=str(arguments.cache_dir)))
        findings = quick_check(arguments.folder, manifest)
        if arguments.full and not findings:
            findings = full_check(arguments.folder, manifest, arguments.processes, cache)
    except UserError as error:
        exit_on_user_error(error)
    for finding in findings:
        print(finding)
    depth = "sha256, members and pixels" if arguments.full else "sizes and index; --full also reads every byte"
    if findings:
        print(f"{arguments.folder}: {len(findings)} findings; {REMEDY}")
        raise SystemExit(1)
    shards = counted(len(manifest.shards), "shard")
    print(f"{arguments.folder}: {counted(manifest.samples, 'sample')} in {shards}: OK ({depth})")


def quick_check(folder: Path, manifest: Manifest) -> list[str]:
    """Findings from file sizes, the index's sha256, and the counts; reads no shard."""
    findings = wrong_sizes(folder, manifest)
    index = ShardDir(folder).index
    if not index.is_file():
        findings.append(f"{index}: missing")
    elif hashlib.sha256(index.read_bytes()).hexdigest() != manifest.index_sha256:
        findings.append(f"{index}: its sha256 differs from the manifest's")
    if sum(entry.samples for entry in manifest.shards) != manifest.samples:
        findings.append(f"{ShardDir(folder).manifest}: the samples of its shards do not add up to {manifest.samples}")
    return findings


def full_check(folder: Path, manifest: Manifest, processes: int = 1, cache: ShardCache | None = None) -> list[str]:
    """Findings from every byte of every shard. Call it on a set that passes the quick check.

    Adopted tars behind URLs are fetched into `cache`.
    """
    numbers = range(len(manifest.shards))
    check = partial(check_shard, ShardSet(folder, manifest, cache=cache))
    shards = progress_bar(parallel_map(check, numbers, processes), name="verify", unit="shards", total=len(numbers))
    return [text for findings in shards for text in findings]


def check_shard(shards: ShardSet, number: int) -> list[str]:
    """Findings in shard `number`: its sha256 and, sample by sample, what its bytes and pixels say."""
    entry = shards.manifest.shards[number]
    path = shards.folder / entry.name
    findings = []
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while data := file.read(READ_BYTES):
            digest.update(data)
        if digest.hexdigest() != entry.sha256:
            findings.append(f"{path}: its sha256 differs from the manifest's")
        for sample in np.flatnonzero(shards.index["shard"] == number):
            findings += [
                f"{path}: sample {sample}, {text}" for text in _check_sample(shards, int(sample), file.fileno())
            ]
    if len(findings) > MAX_FINDINGS:
        findings[MAX_FINDINGS:] = [f"{path}: and {len(findings) - MAX_FINDINGS} findings more"]
    return findings


def _check_sample(shards: ShardSet, sample: int, descriptor: int) -> list[str]:
    """Findings about one sample: headers of its members, checksum, record, pixels."""
    row = shards.index[sample]
    members = [("json", int(row["json_offset"]), int(row["json_size"]))]
    if row["extension"] and not row["image_file"]:
        extension = IMAGE_EXTENSIONS[int(row["extension"])]
        members.insert(0, (extension, int(row["image_offset"]), int(row["image_size"])))
    findings = [text for member in members if (text := _check_header(descriptor, *member))]
    try:
        image = shards.sample(sample).image
        if isinstance(image, bytes):
            check_image(image)
    except DataError as error:
        findings.append(str(error))
    return findings


def _check_header(descriptor: int, extension: str, offset: int, size: int) -> str | None:
    """What is wrong with the header before `offset`: it must be the header of a member of this size."""
    start = offset - ustar.BLOCK
    block = os.pread(descriptor, ustar.BLOCK, start)
    number = block[:20].partition(b".")[0]
    if number.isdigit() and block == ustar.header(f"{number.decode()}.{extension}", size):
        return None
    return f"header at byte {start}: it is not that of a .{extension} of {size} bytes"


if __name__ == "__main__":
    main()
