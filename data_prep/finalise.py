"""The end of a build: all sidecars together become the index and the manifest, if the set is consistent."""

import hashlib
import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from configs.errors import DataError
from configs.shard_dir import ShardDir
from data_prep import atomic
from data_prep.drops import check_drop_fraction
from data_prep.image_notes import NoteBook
from data_prep.manifest import FORMAT_VERSION, MOST_IGNORED, Manifest, ReferencedFile, fingerprint_of
from data_prep.records import ShardChunks
from data_prep.sample import Drop, Sample
from data_prep.shard_index import INDEX_DTYPE
from data_prep.sidecar import COLUMNS, Sidecar, texts_fingerprint
from data_prep.workers import Job


@dataclass(frozen=True, slots=True)
class Finalised:
    """A finalised set, or (without a manifest) the numbers of the shards that other workers have not written yet."""

    manifest: Manifest | None
    missing: tuple[int, ...] = ()


def finalise(job: Job, records: int, max_drop_fraction: float, *, shared: bool = False) -> Finalised:
    """Write index and manifest, if every shard of the `records` records is there.

    Several workers may do this at the same time: they write the same bytes. A `shared` build has shards written by
    other workers: they must come from the same records, or some could be lost or doubled between two shards; with
    `rebuild`, mismatched shards count as missing. Raises `DataError` if too many records were dropped, if two samples
    share an id, or if a shard was built by another recipe or from other records.
    """
    folder, recipe = job.folder, job.recipe
    count = -(-records // recipe.samples_per_shard)
    missing = tuple(number for number in range(count) if not folder.sidecar(number).is_file())
    if missing:  # known without reading the others: most workers of a large array end here
        return Finalised(None, missing)
    sidecars = [Sidecar.read(folder.sidecar(number)) for number in range(count)]
    missing = tuple(number for number, sidecar in enumerate(sidecars) if sidecar is None)
    if missing:
        return Finalised(None, missing)
    whole = [sidecar for sidecar in sidecars if sidecar is not None]
    mismatched = _mismatched(job, whole, shared=shared)
    if mismatched and job.rebuild:
        return Finalised(None, tuple(mismatched))
    for number, why in mismatched.items():
        raise DataError(f"{folder.shard(number)} was built {why}; pass --rebuild to replace it")
    check_drop_fraction(recipe.source, _drops(whole), records, max_drop_fraction)
    index = _index(whole)
    _check_unique_ids(folder, index)
    try:
        return Finalised(_write(job, records, whole, index))
    except OSError as error:
        raise DataError(
            f"index and manifest of {folder.root} cannot be written ({error.strerror}); make room and run the same"
            f" command again: finished shards are kept"
        ) from error


def _mismatched(job: Job, sidecars: list[Sidecar], *, shared: bool) -> dict[int, str]:
    """Shards that do not belong to this job, and what they were built from."""
    settings = job.recipe.settings()
    mismatched = {number: "with other settings" for number, old in enumerate(sidecars) if old.recipe != settings}
    if shared and not mismatched:
        for number, records in ShardChunks(job.source, job.recipe.samples_per_shard):
            if sidecars[number].texts != texts_fingerprint(records):
                mismatched[number] = "from other records (by another worker, or before the source was changed)"
    return mismatched


def _write(job: Job, records: int, sidecars: list[Sidecar], index: NDArray[np.void]) -> Manifest:
    folder, recipe = job.folder, job.recipe
    entries = tuple(sidecar.entry(folder.shard(number).name) for number, sidecar in enumerate(sidecars))
    labels = index["label"]
    notes = NoteBook()
    for sidecar in sidecars:
        notes.merge(sidecar.notes)
    files = tuple(dict.fromkeys(file for sidecar in sidecars for file in sidecar.files))
    buffer = io.BytesIO()
    np.save(buffer, index)
    index_sha256 = hashlib.sha256(buffer.getvalue()).hexdigest()
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        source=recipe.source,
        reader=recipe.reader,
        path=recipe.path,
        options=recipe.options,
        samples_per_shard=recipe.samples_per_shard,
        decode_check=recipe.decode_check,
        class_names=recipe.class_names,
        records=records,
        samples=len(index),
        bytes=sum(entry.bytes for entry in entries),
        shards=entries,
        files=files,
        histogram=tuple(np.bincount(labels[labels >= 0], minlength=len(recipe.class_names)).tolist()),
        drops=_drops(sidecars),
        index_sha256=index_sha256,
        fingerprint=fingerprint_of(entries, index_sha256 if files else None, recipe.exif),
        ignored=job.source.ignored[:MOST_IGNORED],
        exif=recipe.exif,
        notes=notes.notes(),
    )
    hashes = io.BytesIO()
    np.save(hashes, np.array([number for sidecar in sidecars for number in sidecar.image_xxh3], dtype="<u8"))
    _remove_surplus(folder, len(entries))
    atomic.write_bytes(folder.image_hashes, hashes.getvalue())
    atomic.write_bytes(folder.index, buffer.getvalue())
    atomic.write_bytes(folder.manifest, manifest.to_json().encode())
    atomic.remove_leftovers(folder.root)
    return manifest


def _drops(sidecars: list[Sidecar]) -> tuple[Drop, ...]:
    return tuple(drop for sidecar in sidecars for drop in sidecar.drops)


def _index(sidecars: list[Sidecar]) -> NDArray[np.void]:
    """All sidecars' rows under each other; dtype INDEX_DTYPE."""
    index = np.zeros(sum(len(sidecar.rows) for sidecar in sidecars), dtype=INDEX_DTYPE)
    start = 0
    numbers_of_files: dict[ReferencedFile, int] = {}
    for number, sidecar in enumerate(sidecars):
        rows = index[start : start + len(sidecar.rows)]
        rows["shard"] = number
        for name, column in zip(COLUMNS, zip(*sidecar.rows, strict=True), strict=False):
            rows[name] = column
        files = [numbers_of_files.setdefault(file, len(numbers_of_files) + 1) for file in sidecar.files]
        numbers = np.array([0, *files], dtype=np.uint32)
        rows["image_file"] = numbers[rows["image_file"]]  # from the shard's own list to the whole set's
        start += len(sidecar.rows)
    return index


def _check_unique_ids(folder: ShardDir, index: NDArray[np.void]) -> None:
    """Raise `DataError` for a repeated id: evaluations resume by id, and random choices are keyed by it."""
    order = np.argsort(index["id_hash"], kind="stable")
    hashes = index["id_hash"][order]
    (twins,) = np.nonzero(hashes[1:] == hashes[:-1])
    if len(twins) == 0:
        return
    first, second = sorted((int(order[twins[0]]), int(order[twins[0] + 1])))
    with folder.shard(int(index[first]["shard"])).open("rb") as file:
        file.seek(int(index[first]["json_offset"]))
        name = Sample.from_json(file.read(int(index[first]["json_size"]))).id
    raise DataError(
        f"the id {name!r} occurs more than once, first at samples {first} and {second}; a reader must give every sample"
        f" a different id"
    )


def _remove_surplus(folder: ShardDir, count: int) -> None:
    """Delete shards beyond the last one: left by a build when the source had more records."""
    for path in folder.shards():
        if path.stem.isdigit() and int(path.stem) >= count:
            folder.sidecar(int(path.stem)).unlink(missing_ok=True)
            path.unlink()
