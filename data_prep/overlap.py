"""Finds images that are in a training and in an evaluation set: `python -m data_prep.overlap shards/train shards/test`

Exact: the same bytes. Perceptual: the signs of the brightness differences between neighbours in an 8 x 8 picture
(128 bits, "difference hash"), which survive recompression and resizing; images of at most `--distance` different
bits are reported, to be checked by eye. Images that do not decode or have almost no contrast have no meaningful hash
and are only compared byte by byte. Given one set twice, it lists the images that this set holds twice.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from configs.command_line import add_output_file, at_least, command_parser, exit_on_user_error
from configs.errors import UserError
from configs.words import counted
from data_prep import atomic
from data_prep.images import ImageError, decode_grey
from data_prep.processes import parallel_map
from data_prep.progress import print_above_bar, progress_bar
from data_prep.sample import sample_name
from data_prep.shard_index import image_hash
from data_prep.shards import ShardSet

MIN_CONTRAST = 4.0  # standard deviation of grey levels below which a hash means nothing
DRAFT = (72, 72)  # JPEGs are decoded no larger than needed for this
COMPARISONS = 20_000_000  # pairs looked at in one step; bounds memory to some 300 MB


@dataclass(frozen=True, slots=True)
class DuplicatePair:
    """An evaluation image and a training image that are nearly equal; `distance` is in bits, -1 for equal bytes."""

    evaluation_id: str
    training_id: str
    distance: int


@dataclass(frozen=True, slots=True)
class Hashes:
    """Per image of a set: sample number, hash of the bytes, two-part difference hash, and whether it has contrast."""

    numbers: NDArray[np.int64]
    exact: NDArray[np.uint64]
    looks: NDArray[np.uint64]  # [images, 2]
    contrast: NDArray[np.bool_]


def main(argv: Sequence[str] | None = None) -> None:
    """Compare two shard sets and print the images that are in both."""
    parser = command_parser(__doc__)
    parser.add_argument("training", type=Path, help="shard set of training images")
    parser.add_argument("evaluation", type=Path, help="shard set of test images")
    parser.add_argument("--distance", type=at_least(0), default=6, metavar="BITS", help="of 128 bits (default 6)")
    parser.add_argument("--processes", type=at_least(1), default=1, metavar="N", help="processes that hash (default 1)")
    add_output_file(parser, "all pairs as JSON")
    arguments = parser.parse_args(argv)
    try:
        sets = [ShardSet.open(folder) for folder in (arguments.training, arguments.evaluation)]
        hashes = [hash_set(shards, arguments.processes) for shards in sets]
        pairs = find_duplicate_pairs(sets[0], hashes[0], sets[1], hashes[1], arguments.distance)
        within = sets[0].folder.resolve() == sets[1].folder.resolve()
    except UserError as error:
        exit_on_user_error(error)
    if within:  # each pair once, and no image with itself
        both = {frozenset((pair.evaluation_id, pair.training_id)): pair for pair in reversed(pairs)}
        pairs = [pair for names, pair in reversed(both.items()) if len(names) > 1]
    for pair in pairs:
        how = "the same bytes" if pair.distance < 0 else f"{pair.distance} of 128 bits differ"
        print(f"{pair.evaluation_id} = {pair.training_id} ({how})")
    if within:
        print(f"{counted(len(pairs), 'pair')} of images that are equal or look alike")
        _write(arguments.output, pairs)
        return
    exact = len({pair.evaluation_id for pair in pairs if pair.distance < 0})
    alike = len({pair.evaluation_id for pair in pairs}) - exact
    print(
        f"{exact:,} of {len(hashes[1].numbers):,} evaluation images are byte for byte among"
        f" {len(hashes[0].numbers):,} training images, {alike:,} more look alike"
    )
    _write(arguments.output, pairs)


def _write(output: Path | None, pairs: Sequence[DuplicatePair]) -> None:
    if output:
        atomic.write_json(output, [asdict(pair) for pair in pairs])


def hash_set(shards: ShardSet, processes: int = 1) -> Hashes:
    """The hashes of all images of a set; text-only samples are left out."""
    work, numbers = partial(_hash_shard, shards), range(len(shards.manifest.shards))
    parts = progress_bar(parallel_map(work, numbers, processes), name="hashes", unit="shards", total=len(numbers))
    rows = [row for part in parts for row in part]
    table = np.array(rows, dtype=np.uint64).reshape(-1, 5)
    return Hashes(table[:, 0].astype(np.int64), table[:, 1], table[:, 2:4], table[:, 4].astype(np.bool_))


def _hash_shard(shards: ShardSet, number: int) -> list[tuple[int, int, int, int, int]]:
    rows = []
    for sample in np.flatnonzero((shards.index["shard"] == number) & (shards.index["extension"] > 0)):
        image = shards.sample(int(sample)).image
        assert isinstance(image, bytes)
        exact = image_hash(image)
        try:
            look = difference_hash(image)
        except ImageError as error:  # a set that was built with decode_check: false may hold it
            print_above_bar(f"{shards.where(int(sample))}: {error}; only its bytes are compared")
            look = (0, 0, 0)
        rows.append((int(sample), exact, *look))
    return rows


def difference_hash(data: bytes) -> tuple[int, int, int]:
    """(hash of differences along rows, hash along columns, 1 if the image has contrast). Raises `ImageError`."""
    grey = decode_grey(data, DRAFT)
    rows = np.asarray(grey.resize((9, 8), Image.Resampling.BOX)).astype(np.int16)
    columns = np.asarray(grey.resize((8, 9), Image.Resampling.BOX)).astype(np.int16)
    bits = (np.diff(rows, axis=1) > 0, np.diff(columns, axis=0) > 0)
    first, second = (int.from_bytes(np.packbits(half).tobytes(), "little") for half in bits)
    return first, second, int(rows.std() >= MIN_CONTRAST)


def find_duplicate_pairs(
    training: ShardSet, train_hashes: Hashes, evaluation: ShardSet, eval_hashes: Hashes, distance: int
) -> list[DuplicatePair]:
    """All pairs of equal bytes, and all pairs of other images at most `distance` bits apart, by evaluation sample."""
    pairs = []
    step = max(1, COMPARISONS // max(1, len(train_hashes.numbers)))
    for start in range(0, len(eval_hashes.numbers), step):
        block = slice(start, start + step)
        equal = eval_hashes.exact[block, None] == train_hashes.exact[None, :]
        bits = np.zeros(equal.shape, dtype=np.uint8)
        for half in (0, 1):
            bits += np.bitwise_count(eval_hashes.looks[block, None, half] ^ train_hashes.looks[None, :, half])
        alike = (bits <= distance) & eval_hashes.contrast[block, None] & train_hashes.contrast[None, :]
        for test, train in np.argwhere(equal | alike):
            pairs.append(
                DuplicatePair(
                    sample_name(evaluation.record(int(eval_hashes.numbers[start + test]))),
                    sample_name(training.record(int(train_hashes.numbers[train]))),
                    -1 if equal[test, train] else int(bits[test, train]),
                )
            )
    return pairs


if __name__ == "__main__":
    main()
