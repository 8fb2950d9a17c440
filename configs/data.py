"""Settings of raw sources and shards."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from configs.errors import ConfigError
from configs.section import Section, check_name, setting

IGNORE, APPLY = "ignore", "apply"  # values of `data.exif`


@dataclass(frozen=True, kw_only=True)
class SourceConfig(Section):
    """One raw dataset and the reader that understands it."""

    reader: str = setting(doc="Name of a reader in data_prep/readers (`python -m data_prep.build --list-readers`).")
    path: str | None = setting(
        None, doc="File or folder the reader reads; for tars also a URL or a pattern.", changes_result=False
    )
    options: dict[str, Any] = setting(
        dict,
        doc="Keyword options of the reader; unknown ones are an error. Null in a mapping removes an entry of `base`.",
    )

    def __post_init__(self) -> None:
        """Leave out the entries of mappings that are null: they remove what a base file has."""
        super().__post_init__()
        object.__setattr__(self, "options", {key: _without_null(value) for key, value in self.options.items()})


@dataclass(frozen=True, kw_only=True)
class DataConfig(Section):
    """Raw sources and the tar shards made of them."""

    shards: str = setting(
        "shards",
        doc="Folder of the shard sets, one subfolder per source; may be an http(s), s3 or gs URL.",
        changes_result=False,
    )
    cache_dir: str = setting(
        "shard_cache",
        doc="Folder for local copies of shards and tars behind a URL; environment variables, as in "
        "/scratch/$SLURM_JOB_ID, are read where the cache is used.",
        changes_result=False,
    )
    cache_gib: float = setting(100.0, doc="Maximum GiB of these copies.", above=0, changes_result=False)
    samples_per_shard: int = setting(1000, doc="Records per tar shard.", at_least=1, changes_result=False)
    decode_check: bool = setting(True, doc="Decode every image once while building; drop and name what fails.")
    exif: str = setting(
        IGNORE,
        doc="EXIF orientation of photographs: `ignore` it, as LLaVA and the paper do, or `apply` it.",
        choices=(IGNORE, APPLY),
    )
    max_drop_fraction: float = setting(
        0.001, doc="Largest fraction of records a build may drop before it fails.", at_least=0, at_most=1
    )
    prompt: str = setting(
        "paper",
        doc="Classification prompt by name (data_prep/prompts.py) of every source whose options say "
        "`prompt: ${data.prompt}`.",
    )
    sources: dict[str, SourceConfig] = setting(dict, doc="Source name to source; names become folder names.")

    def __post_init__(self) -> None:
        """Raise `ConfigError` if a source name could not be a folder name."""
        super().__post_init__()
        for name in self.sources:
            check_name(name, "source name")


def _without_null(value: Any) -> Any:
    """`value`, without the entries of mappings in it that are null."""
    if not isinstance(value, dict):
        return value
    return {key: _without_null(entry) for key, entry in value.items() if entry is not None}


def check_sources_exist(names: tuple[str, ...], sources: Mapping[str, SourceConfig], hint: str = "") -> None:
    """Raise `ConfigError` for a name that is no source; `hint` says what to do."""
    for name in names:
        if name not in sources:
            raise ConfigError(f"source {name!r} is not in data.sources; it has: {', '.join(sources) or 'none'}{hint}")
