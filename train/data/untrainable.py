"""Samples of the shards that cannot be trained on, found before training and named all at once.

A text with `<s>` or `</s>`, a question alone longer than `chat.max_length`, an image that the limit cuts. The build
notes the first (`data_prep.image_notes`); counting tokens finds all (`train.data.lengths`). `train.unreadable` decides,
as for samples that cannot be read: `stop` here, or `skip` them, with weight 0, when they are drawn.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from configs.errors import DataError
from data_prep.image_notes import SPECIAL_TOKENS
from data_prep.shard_index import id_hash
from train.data.collate import ExampleBuilder
from train.data.lengths import Counts
from train.data.order import Mask
from train.data.sources import SourceSet

SHOWN = 20  # ids of each kind in a message


def check_trainable(
    sources: SourceSet, builder: ExampleBuilder, kept: Mask | None, counts: Counts | None, unreadable: str
) -> list[str]:
    """One sentence per kind of sample that will be skipped; with `unreadable` `stop`, raises `DataError` with them.

    `kept` is the mixture's: samples that are not trained on do not matter. Without `counts` only samples that the build
    noted are looked at.
    """
    kinds: dict[str, list[str]] = {}
    for position in _candidates(sources, counts):
        if kept is not None and not kept[position]:
            continue
        fault = _fault(sources, builder, position)
        if fault is not None:
            sample_id, reason = fault
            kinds.setdefault(reason.partition(": ")[0], []).append(sample_id)
    lines = [_line(kind, ids) for kind, ids in kinds.items()]
    if lines and unreadable == "stop":
        total = sum(map(len, kinds.values()))
        raise DataError(
            f"{total:,} samples cannot be trained on: {'; '.join(lines)}. Change these records and build again, or pass"
            " them over with train.unreadable: skip"
        )
    return lines


def _candidates(sources: SourceSet, counts: Counts | None) -> Iterator[int]:
    """Positions that may be at fault, in order."""
    if counts is not None:
        yield from map(int, np.flatnonzero(counts["fault"]))
        return
    for number, shards in enumerate(sources.sets):
        note = shards.manifest.notes.get(SPECIAL_TOKENS)
        if note is not None:
            name = shards.manifest.source
            hashes = np.array([id_hash(f"{name}/{sample_id}") for sample_id in note.ids], dtype=np.uint64)
            found = np.flatnonzero(np.isin(shards.index["id_hash"], hashes))
            yield from (int(sources.starts[number]) + int(index) for index in found)


def _fault(sources: SourceSet, builder: ExampleBuilder, position: int) -> tuple[str, str] | None:
    """(id, reason) of a sample that cannot be trained on; None if it can."""
    source, index = sources.locate(position)
    sample_id = f"{sources.names[source]}, sample {index}"
    try:
        has_image = bool(sources.sets[source].index[index]["extension"] > 0)
        read = sources.sample if has_image and builder.needs_image_size else sources.record
        sample = read(position)
        sample_id = sample.id
        builder.tokens(sample, has_image=has_image)
    except DataError as error:
        return sample_id, str(error).removeprefix(f"sample {sample_id}: ")
    return None


def _line(kind: str, ids: Sequence[str]) -> str:
    more = f", and {len(ids) - SHOWN:,} more" if len(ids) > SHOWN else ""
    return f"{len(ids):,} x {kind} ({', '.join(ids[:SHOWN])}{more})"
