"""Are the shards of a source those that the configuration describes? Compared without reading any data.

A shard set's manifest records the reader, its path and its options. Training and evaluation compare them with
`data.sources.NAME`, so that shards of other data are never read without a word. A path may be absent on this machine,
where only shards were copied to; another path is other data until a build has compared its records.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from configs.data import DataConfig, SourceConfig
from configs.errors import BUILD_SHARDS, DataError
from data_prep.manifest import Manifest
from data_prep.registry import option_defaults
from data_prep.shard_cache import ShardCache
from data_prep.shards import ShardSet

STORED_TURNS = ("prompt",)
"""Reader options that only change the conversation stored with a sample, which an evaluation does not use."""
PATTERN = ("{", "::", "://")
"""Parts of a path that names several files or a URL: whether it exists is unknown here."""


def open_shards(data: DataConfig, name: str, *, evaluated: bool = False) -> ShardSet:
    """The shard set of the source `name`, where the configuration says that shards are.

    Raises `DataError` if it is missing, unfinished, or built from other data than `data.sources` describes; a source
    that is not described is not compared. `evaluated`: the conversations stored with the samples are not used.
    """
    shards = ShardSet.open(Path(data.shards) / name, ShardCache.of(data))
    check_source_of(shards.manifest, data, name, evaluated=evaluated)
    return shards


def check_source_of(manifest: Manifest, data: DataConfig, name: str, *, evaluated: bool = False) -> None:
    """Raise `DataError` that names both sides if the source `name` of `data` is not what `manifest` was built from."""
    source = data.sources.get(name)
    if source is None:
        return
    differences = _differences(source, manifest, STORED_TURNS if evaluated else ())
    if data.exif != manifest.exif:
        differences.append(f"data.exif is {data.exif} and was {manifest.exif}")
    if differences:
        raise DataError(
            f"the shards in {Path(data.shards) / name} are not those that data.sources.{name} describes: "
            f"{'; '.join(differences)}. Set data.sources.{name} as the shards were built, set data.shards to the "
            f"folder of the other shards, or run `{BUILD_SHARDS}`, which keeps shards whose records are the same "
            "(--rebuild replaces the others)"
        )


def absent_paths(data: DataConfig, names: Sequence[str]) -> list[str]:
    """One sentence for each source whose raw data is not on this machine; its shards suffice."""
    notes = []
    for name in dict.fromkeys(names):
        source = data.sources.get(name)
        if source is None or source.path is None or any(part in source.path for part in PATTERN):
            continue
        if not Path(source.path).expanduser().exists():
            notes.append(
                f"{name}: its path {source.path} is not on this machine; its shards in {Path(data.shards) / name} "
                "were built from that path and are used"
            )
    return notes


def _differences(source: SourceConfig, manifest: Manifest, ignored: tuple[str, ...]) -> list[str]:
    """What the configuration says that the manifest does not, each with both values."""
    if source.reader != manifest.reader:
        return [f"reader is {source.reader} and was {manifest.reader}"]
    found = []
    if source.path is not None and not _same_path(source.path, manifest.path):
        found.append(f"path is {source.path} and was {manifest.path}")
    defaults = option_defaults(source.reader)
    ours, theirs = defaults | dict(source.options), defaults | dict(manifest.options)
    found += [
        f"options.{key} is {ours.get(key)!r} and was {theirs.get(key)!r}"
        for key in sorted({*ours, *theirs} - {*ignored})
        if not _same_value(ours.get(key), theirs.get(key))
    ]
    return found


def _same_value(ours: Any, theirs: Any) -> bool:
    """Whether two options mean the same: equal, or two spellings of one path."""
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        return ours.keys() == theirs.keys() and all(_same_value(ours[key], theirs[key]) for key in ours)
    if isinstance(ours, list | tuple) and isinstance(theirs, list | tuple):
        return len(ours) == len(theirs) and all(map(_same_value, ours, theirs))
    if isinstance(ours, str) and isinstance(theirs, str) and os.sep in ours + theirs:
        return _same_path(ours, theirs)
    return bool(ours == theirs) and isinstance(ours, bool) == isinstance(theirs, bool)


def _same_path(ours: str | None, theirs: str | None) -> bool:
    """Whether two paths are spellings of one, links followed."""
    if ours == theirs:
        return True
    if ours is None or theirs is None or any(part in ours + theirs for part in PATTERN):
        return False
    return Path(ours).expanduser().resolve() == Path(theirs).expanduser().resolve()
